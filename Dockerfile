# segment-relay as an image that holds one static binary, the CA certificates and nothing to log into. It writes no file
# but the outbox's, all in /var/lib/segment-relay and only if RELAY_OUTBOX_URL says so; the root may be read-only.
#
#   docker build -t segment-relay .
#   docker run --rm --read-only -p 127.0.0.1:8080:8080 -e SEGMENT_WRITE_KEY=... segment-relay
#
# With an outbox, which needs a volume there (without one the read-only root refuses, rather than losing calls with the
# container):
#
#   docker run --rm --read-only -p 127.0.0.1:8080:8080 -e SEGMENT_WRITE_KEY=... -v segment-relay:/var/lib/segment-relay \
#     -e RELAY_OUTBOX_URL=sqlite:///var/lib/segment-relay/outbox.db segment-relay
#
# The relay's settings are in config/relay.env; `docker run --env-file` takes that file.

FROM rust:1.95-bookworm AS build
WORKDIR /build

# The C library goes into the binary, since the final image has none. That needs a named target, or procedural macros
# would be linked that way too and not load; host-tuple is cargo's word for the machine's own, as in `rustc -vV`.
ENV CARGO_BUILD_TARGET=host-tuple \
    RUSTFLAGS="-C target-feature=+crt-static" \
    CARGO_PROFILE_RELEASE_STRIP=symbols

# The dependencies first, in a layer that lasts until the manifest changes. Cargo wants every file the manifest names to be
# there, so each gets a stand-in; a new [[test]] or [[bench]] needs one too.
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir -p src tests/it benches \
    && touch src/lib.rs tests/it/main.rs tests/bdd.rs benches/relay.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --locked --release

# Cargo compares times, and a source may be older than its stand-in.
COPY src src
RUN touch src/lib.rs src/main.rs \
    && cargo build --locked --release \
    && cp target/*/release/segment-relay /segment-relay \
    && mkdir /outbox

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /segment-relay /usr/local/bin/segment-relay

# An empty folder that the relay's user owns: a new named volume takes its owner over. No VOLUME, which would put an outbox
# that nobody thought of into a volume without a name, where nobody looks for it.
COPY --from=build --chown=65532:65532 /outbox /var/lib/segment-relay

# By number, so that Kubernetes can tell it is not root; the base's `nonroot`.
USER 65532:65532
EXPOSE 8080

# Asks the address of RELAY_LISTEN or PORT. It gives up by itself after 3 s, before Docker does. Liveness, not readiness: one
# that is shutting down is not sick.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["segment-relay", "healthcheck"]
ENTRYPOINT ["segment-relay"]

# --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD). Last, so that they spoil no other layer.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="segment-relay" \
      org.opencontainers.image.description="Takes customers from webhooks, passes them to Segment, and answers with the truth about what happened" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian12:nonroot" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
