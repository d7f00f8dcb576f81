#!/bin/sh
# Installs a build under DESTDIR, moves the tree, and builds and runs a program
# against it: by pkg-config, then by find_package, shared and static.
# Usage: test_install.sh BUILD_DIR LIBDIR BINDIR DATADIR (the last three below the prefix)
set -eu

build=$1 libdir=$2 bindir=$3 datadir=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR=$work/stage cmake --install "$build" --prefix /opt/cede >"$work/install.log"
mv "$work/stage/opt/cede" "$work/moved"
prefix=$work/moved

test "$("$prefix/$bindir/cede" --version)" != ""
test -L "$prefix/$libdir/libcede.so"
test -d "$prefix/libexec/cede"
test -s "$prefix/$datadir/doc/cede/README.md"
test -s "$prefix/$datadir/doc/cede/docs/doctor.md"
for page in "$here"/../../man/*; do
	cmp "$page" "$prefix/$datadir/man/man${page##*.}/${page##*/}"
done

# Each shell that is here finds its completion among those of the system.
bash_loader=/usr/share/bash-completion/bash_completion
export XDG_DATA_DIRS="$prefix/$datadir"
if [ -e $bash_loader ]; then
	bash -c ". $bash_loader"'
		$(complete -p -D | sed "s/.*-F \([^ ]*\).*/\1/") cede
		complete -p cede' | grep -q -- '-F _cede cede'
fi
if command -v zsh >/dev/null; then
	zsh -fc "fpath=('$prefix/$datadir/zsh/site-functions' \$fpath)"'
		autoload -Uz compinit; compinit -u -D; echo $_comps[cede]' | grep -qx _cede
fi
if command -v fish >/dev/null; then
	HOME=$work PATH="$prefix/$bindir:$PATH" fish -c 'complete -C "cede doc"' |
		grep -q '^doctor.tell why'
fi
unset XDG_DATA_DIRS
echo "completion: well"

export PKG_CONFIG_PATH="$prefix/$libdir/pkgconfig"
# shellcheck disable=SC2046 # pkg-config's answer is a list of words
cc -o "$work/by-pkg-config" "$here/consumer.c" $(pkg-config --cflags --libs cede)
LD_LIBRARY_PATH="$prefix/$libdir" "$work/by-pkg-config"
echo "pkg-config: well"

cmake -S "$here" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" >"$work/configure.log"
cmake --build "$work/build" >"$work/build.log"
"$work/build/shared"
"$work/build/static"
echo "find_package: well"
