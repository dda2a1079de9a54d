#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 The OpenSIPS Companion developers
#
# Build event_zeromq.so for one OpenSIPS: build.sh SOURCE FOLDER [BINARY]
#
# SOURCE is the configured source of exactly the OpenSIPS that will load the module, and is not changed. BINARY is that
# OpenSIPS (default: SOURCE/opensips, else the one on PATH). What is built is compared with it, because OpenSIPS refuses
# a module of another version, with other compile flags or of another revision.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

fail() {
    echo "event_zeromq: $*" >&2
    exit 1
}

# Print what `opensips -V` says after a label.
banner() {
    "$binary" -V | sed -n "s/^$1: //p" | head -n 1
}

# Link everything of the source but `modules`, which holds ours alone: a folder that is a link does not build.
make_tree() {
    rm -rf "$tree"
    mkdir -p "$tree/modules/event_zeromq"
    for entry in "$source"/* "$source"/.git*; do
        case ${entry##*/} in
            modules | '*' | '.git*') ;;
            *) ln -s "$entry" "$tree/" ;;
        esac
    done
    [ -e "$tree/Makefile.conf" ] || cp "$source/Makefile.conf.template" "$tree/Makefile.conf"
    cp "$here"/*.c "$here"/*.h "$here/Makefile" "$tree/modules/event_zeromq/"
}

build() {
    set -- modules modules=modules/event_zeromq
    [ -z "$revision" ] || set -- "$@" VERSIONTYPE=git THISREVISION="$revision"
    make -s -C "$tree" "$@" >"$tree/build.log" 2>&1 || fail "it does not build:
$(tail -n 20 "$tree/build.log")"
    if grep -A5 ' warning: ' "$tree/build.log" >&2; then
        fail "there were warnings"
    fi
}

check() {
    [ -f "$module" ] || fail "nothing was built: see $tree/build.log"
    for text in "$version" "$flags" "$revision"; do
        grep -aqF -- "$text" "$module" || fail "$binary is '$text', and $source makes another one: it would refuse the module"
    done
}

[ $# -ge 2 ] || fail "usage: build.sh SOURCE FOLDER [BINARY]"
source=$(CDPATH='' cd -- "$1" && pwd) || fail "no folder $1"
[ -f "$source/sr_module.h" ] || fail "$source holds no source of OpenSIPS"
pkg-config --exists libzmq 2>/dev/null || [ -f /usr/include/zmq.h ] || fail "libzmq is missing: apt-get install libzmq3-dev"
mkdir -p "$2"
folder=$(CDPATH='' cd -- "$2" && pwd)
binary=${3:-$source/opensips}
[ -x "$binary" ] || binary=$(command -v opensips) || fail "no opensips to compare with: name it as OPENSIPS_BIN"
version=$(banner version)
flags=$(banner flags)
revision=$(banner 'git revision')
tree=$folder/tree
module=$tree/modules/event_zeromq/event_zeromq.so

make_tree
build
check
cp "$module" "$folder/event_zeromq.so"
echo "$folder/event_zeromq.so: for $version${revision:+, revision $revision}"
