# The native host in an image that holds nothing else: one static binary, and a folder for its token.
#
#   docker build --tag nodetool-auth .
#   docker run --publish 8000:8000 --volume nodetool-auth:/config --env UPSTREAM_URL=http://api:9000 nodetool-auth

FROM docker.io/library/rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends musl-tools \
 && rustup target add "$(uname -m)-unknown-linux-musl"
# What is written in C in it is for the same libc.
ENV TARGET_CC=musl-gcc
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package nodetool-auth --target "$(uname -m)-unknown-linux-musl" \
 && install -D --target-directory=/image/bin "target/$(uname -m)-unknown-linux-musl/release/nodetool-auth" \
 && install --directory --mode=0700 /image/volumes/config

FROM scratch
# Nobody whom the image runs as can write to the binary; the folder is private to them.
COPY --from=build /image/bin/ /
COPY --from=build --chown=65532:65532 /image/volumes/ /
USER 65532:65532
# A container is reached from outside, so that nobody passes without a token unless AUTH_PROVIDER says so.
ENV ENV=production AUTH_LISTEN=0.0.0.0:8000 NODETOOL_CONFIG_PATH=/config/deployment.yaml
VOLUME /config
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/nodetool-auth", "health"]
ENTRYPOINT ["/nodetool-auth"]
CMD ["serve"]
