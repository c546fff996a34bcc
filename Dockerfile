# Two stages: the first makes a virtual environment, the second has what runs and nothing else.
# scripts/docker-steps performs these steps without a container engine, as a test.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/portico
COPY requirements requirements
RUN /opt/portico/bin/python -m pip install --require-hashes --requirement requirements/run.lock
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY server server
COPY tui tui
COPY docs/cookbook docs/cookbook
# Without git, the version is what PKG-INFO says: docker build --build-arg "VERSION=$(scripts/version)" .
ARG VERSION=
RUN if [ -n "$VERSION" ]; then echo "Version: $VERSION" > PKG-INFO; fi
RUN /opt/portico/bin/python -m pip install --no-deps --build-constraint requirements/build.lock . && touch /opt/portico/.portico-image

FROM python:3.13-slim
# The llama.cpp server is built with OpenMP; bubblewrap is the sandbox of the code tools, where the container may use it.
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 8642 --create-home portico && install --directory --owner portico /data
COPY --from=build /opt/portico /opt/portico
# Reached from outside the container, the daemon needs a key: PORTICO_API_KEY. Without one it refuses to start.
ENV PATH=/opt/portico/bin:$PATH PORTICO_HOME=/data PORTICO_HOST=0.0.0.0 PORTICO_PORT=8642
USER portico
WORKDIR /data
VOLUME /data
EXPOSE 8642
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORTICO_PORT']), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-P", "-m", "portico_server", "serve"]
