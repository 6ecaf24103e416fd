# The image of segment-relay holds one static binary and the CA certificates. It has no shell. The relay writes only the files
# of the outbox, in /var/lib/segment-relay, if RELAY_OUTBOX_URL says so. The root may be read-only.
#
#   docker build -t segment-relay .
#   docker run --rm --read-only -p 127.0.0.1:8080:8080 -e SEGMENT_WRITE_KEY=... segment-relay
#
# An outbox needs a volume. Without one a read-only root stops the start; a writable root would lose the calls together with
# the container.
#
#   docker run --rm --read-only -p 127.0.0.1:8080:8080 -e SEGMENT_WRITE_KEY=... -v segment-relay:/var/lib/segment-relay \
#     -e RELAY_OUTBOX_URL=sqlite:///var/lib/segment-relay/outbox.db segment-relay
#
# Sources need their file and its filters, and run these in further processes of the same binary:
#
#     -v "$PWD/config/sources:/etc/segment-relay:ro" -e RELAY_SOURCES=/etc/segment-relay/sources.toml -e SHOPIFY_CLIENT_SECRET=...
#
# config/relay.env lists the settings. `docker run --env-file` takes that file.

FROM rust:1.95-bookworm AS build
WORKDIR /build

# The final image has no C library, so the binary is linked with it statically. That needs a named target: otherwise procedural
# macros are linked statically too, and do not load. host-tuple is cargo's name for the machine's own target (`rustc -vV`).
ENV CARGO_BUILD_TARGET=host-tuple \
    RUSTFLAGS="-C target-feature=+crt-static" \
    CARGO_PROFILE_RELEASE_STRIP=symbols

# This layer holds the built dependencies. Docker reuses it until the manifest changes. Cargo needs every file that the manifest
# names, so each has an empty stand-in here. A new [[test]] or [[bench]] needs a stand-in too. build.rs reads openapi.json.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY src/api/openapi.json src/api/openapi.json
RUN mkdir -p tests/it benches \
    && touch src/lib.rs tests/it/main.rs tests/bdd.rs benches/relay.rs benches/layers.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --locked --release

# Cargo compares modification times, and a source may be older than its stand-in.
COPY src src
RUN touch src/lib.rs src/main.rs \
    && cargo build --locked --release \
    && cp target/*/release/segment-relay /segment-relay \
    && mkdir /outbox

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /segment-relay /usr/local/bin/segment-relay

# An empty folder that the relay's user owns. A new named volume takes over this owner. There is no VOLUME instruction: it would
# put an outbox without a volume of its own into an anonymous volume, where nobody looks for it.
COPY --from=build --chown=65532:65532 /outbox /var/lib/segment-relay

# The user `nonroot` of the base image. It is a number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080

# `healthcheck` asks the address of RELAY_ADMIN_LISTEN, RELAY_LISTEN or PORT, and gives up after 3 s, before Docker does. It checks
# liveness, not readiness: a relay that shuts down is healthy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["segment-relay", "healthcheck"]
ENTRYPOINT ["segment-relay"]

# --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD). They come last, so that a new
# value invalidates no other layer.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="segment-relay" \
      org.opencontainers.image.description="Takes customers from webhooks, passes them to Segment, and answers with the truth about what happened" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian12:nonroot" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
