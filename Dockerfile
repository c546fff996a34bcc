# Three stages: the dependencies and the product are made apart, so that a changed line of the product is a small layer.
# scripts/docker-steps performs these steps without a container engine, as a test.
FROM python:3.13-slim AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/portico
COPY requirements requirements
RUN /opt/portico/bin/python -m pip install --no-cache-dir --no-compile --require-hashes --requirement requirements/run.lock
# Debug symbols are a fifth of the dependencies. Libraries that auditwheel has changed stay as they are.
RUN find /opt/portico -name '*.so' -not -path '*.libs/*' -exec strip --strip-debug {} +

FROM dependencies AS product
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY server server
COPY tui tui
COPY docs/cookbook docs/cookbook
COPY requirements/build.lock requirements/build.lock
# Without git, the version is what PKG-INFO says: docker build --build-arg "VERSION=$(scripts/version)" .
ARG VERSION=
RUN if [ -n "$VERSION" ]; then printf 'Metadata-Version: 2.4\nName: portico-ai\nVersion: %s\n' "$VERSION" > PKG-INFO; fi
# A start writes the bytecode that a start needs; the daemon's user cannot write it later.
RUN touch /src/installed && /opt/portico/bin/python -m pip install --no-cache-dir --no-deps --build-constraint requirements/build.lock . \
    && touch /opt/portico/.portico-image \
    && PYTHONDONTWRITEBYTECODE= PORTICO_HOME=/src/home PORTICO_OFFLINE=true PORTICO_PORT=0 /opt/portico/bin/portico up --detach \
    && PORTICO_HOME=/src/home /opt/portico/bin/portico down \
    && mkdir /src/product \
    && find /opt/portico -cnewer /src/installed -type f -print0 | tar --create --null --files-from - | tar --extract --directory /src/product

FROM python:3.13-slim
# The llama.cpp server is built with OpenMP; bubblewrap is the sandbox of the code tools, where the container may use it;
# tini ends what tools leave behind.
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap libgomp1 tini && rm -rf /var/lib/apt/lists/*
# The group 0 owns the data, so that any user of this group can run the image, as OpenShift does.
RUN useradd --uid 8642 --gid 0 --no-create-home --home-dir /data portico && install --directory --owner portico --group 0 --mode 0770 /data
COPY --from=dependencies /opt/portico /opt/portico
COPY --from=product /src/product /
# Reached from outside the container, the daemon needs a key: PORTICO_API_KEY. Without one it refuses to start.
ENV PATH=/opt/portico/bin:$PATH HOME=/data PORTICO_HOME=/data PORTICO_HOST=0.0.0.0 PORTICO_PORT=8642
USER portico
WORKDIR /data
VOLUME /data
EXPOSE 8642
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORTICO_PORT']), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--", "python", "-P", "-m", "portico_server", "serve"]
