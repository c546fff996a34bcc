"""A store follows a small web site: what is new there is found after the next look, nothing else is read again."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from portico import Client


class Site(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory="site"))
Thread(target=server.serve_forever, daemon=True).start()
news = Path("site", "news.html")
news.unlink(missing_ok=True)

with Client() as client:
    address = f"http://127.0.0.1:{server.server_port}/"
    client.stores.add("harbour", source=address, app=True, answers="quote")
    client.runs.wait(client.stores.sync("harbour"))
    print(sorted(file.filename for file in client.stores.files("harbour")))
    print(client.ask("How much does a berth cost?", app="harbour").read().text)
    news.write_text("<title>News</title><h1>News</h1><p>The lighthouse is painted in May.</p>", "utf-8")
    plan = client.stores.plan("harbour")
    print(f"new: {', '.join(plan.added)}; unchanged: {plan.unchanged}")
    client.runs.wait(client.stores.sync("harbour"))
    print(client.ask("When is the lighthouse painted?", app="harbour").read().text)
    client.stores.remove("harbour")
server.shutdown()
server.server_close()
