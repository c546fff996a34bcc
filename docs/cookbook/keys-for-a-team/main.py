"""A key for each purpose: it may do what its scopes say and nothing else, and ends at once when it is revoked."""

from portico import Client, Forbidden, PorticoError, Unauthenticated


def attempt(name, what):
    """Print what comes of a call, or why it is refused."""
    try:
        print(f"{name}: {what()}")
    except Forbidden as error:
        print(f"{name}: 403 {error.message}")
    except Unauthenticated as error:
        print(f"{name}: 401 {error.code}")
    except PorticoError as error:
        print(f"{name}: {error.status} {error.code}")


with Client() as admin:
    reader = admin.keys.add("reader", ["stores:handbook:read"])
    website = admin.keys.add("website", ["chat", "apps:handbook:call", "stores:handbook:read"])

    with Client(admin.url, reader.key) as client:
        attempt("reader searches", lambda: client.search("handbook", "open").passages[0].filename)
        attempt("reader chats", lambda: client.chat("Hello").read().text)
        attempt("reader makes a key", lambda: client.keys.add("more", ["admin"]))

    with Client(admin.url, website.key) as client:
        attempt("website asks", lambda: client.ask("When do you open?", app="handbook").read().text)
        attempt("website deletes the store", lambda: client.stores.remove("handbook"))
        admin.keys.revoke(website.id)
        attempt("website, revoked", lambda: client.ask("When do you open?", app="handbook").read().text)

    print("left:", [(key.name, list(key.scopes)) for key in admin.keys.list()])
