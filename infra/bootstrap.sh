#!/bin/sh
# Make .venv exactly what requirements.lock says. Does nothing when it already is; may be interrupted and run again.
# Needs Python 3.11 or 3.12 (HEADRACE_PYTHON chooses one) and the package registry pip is configured for.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX

stamp=.venv/headrace.stamp
uv=.venv/bootstrap/bin/uv

fail() {
    echo "headrace: $*" >&2
    exit 1
}

usable() {  # a shim of pyenv may exist and not work, a Debian python3 may lack venv: so it is tried
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1
}

choose_python() {
    if [ -n "${HEADRACE_PYTHON:-}" ]; then
        usable "$HEADRACE_PYTHON" || fail "HEADRACE_PYTHON=$HEADRACE_PYTHON is not a Python 3.11 or 3.12 with venv and ensurepip"
        python=$HEADRACE_PYTHON
        return
    fi
    for python in python3.12 python3.11 python3 python; do
        if usable "$python"; then return; fi
    done
    fail "no Python 3.11 or 3.12 with venv and ensurepip on the PATH (tried python3.12, python3.11, python3, python);" \
        "install one (Debian: apt install python3-venv), or name it: make HEADRACE_PYTHON=/path/to/python3.12 ..."
}

# What the environment depends on; the path too, since a virtual environment cannot be moved.
wanted() {
    pwd
    echo "${HEADRACE_PYTHON:-any}"
    cksum requirements.lock pyproject.toml infra/bootstrap.lock infra/bootstrap.sh
}

# uv does not read pip's settings; whoever set up pip for a mirror should not have to do it twice.
adopt_pip_settings() {
    index=${PIP_INDEX_URL:-$(.venv/bootstrap/bin/python -m pip config get global.index-url 2>/dev/null || true)}
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
    if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then export UV_INDEX="${UV_INDEX:-$PIP_EXTRA_INDEX_URL}"; fi
    if [ -n "${PIP_CERT:-}" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"; fi
    links=
    for link in ${PIP_FIND_LINKS:-}; do
        case $link in
            *://*) links="${links:+$links,}$link" ;;
            *) if [ -d "$link" ]; then links="${links:+$links,}$link"; fi ;;  # pip shrugs at a missing folder, uv stops
        esac
    done
    if [ -n "$links" ]; then export UV_FIND_LINKS="${UV_FIND_LINKS:-$links}"; fi
    export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}" UV_PYTHON_DOWNLOADS=never
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ] && usable .venv/bin/python; then
    exit 0
fi
if [ -n "${HEADRACE_PYTHON:-}" ] || ! usable .venv/bin/python; then
    choose_python
    echo "headrace: making .venv with $("$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')" >&2
    "$python" -m venv --clear --without-pip .venv
fi
rm -f "$stamp"
if ! "$uv" --version 2>/dev/null | grep -q "^uv $(sed -n 's/^uv==\([^ ]*\).*/\1/p' infra/bootstrap.lock)\( \|$\)"; then
    .venv/bin/python -m venv --clear .venv/bootstrap
    .venv/bootstrap/bin/python -m pip --disable-pip-version-check install --quiet --no-input \
        --only-binary :all: --require-hashes -r infra/bootstrap.lock
fi
adopt_pip_settings
# Bytecode is made once, here: where PYTHONDONTWRITEBYTECODE is set, every process would make it again, for seconds.
"$uv" pip install --quiet --compile-bytecode --python .venv/bin/python --require-hashes -r requirements.lock
"$uv" pip install --quiet --python .venv/bin/python --no-deps -e .
wanted > "$stamp"
echo "headrace: .venv is ready" >&2
