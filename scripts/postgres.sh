# What scripts/test and scripts/bench share: a directory for all that they write,
# which goes away however they end, and a PostgreSQL of their own in it. To be
# sourced by bash, from the repository's root; gives $tmp, group, step, install
# and start_postgres.

fail() { echo "scripts/${0##*/}: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# group COMMAND…: runs it as a job in a process group of its own. bash runs a trap
# only after the foreground command has ended, but leaves a wait at once, and a whole
# group can be ended, with all that go test has started.
group() {
	set -m; "$@" & set +m
	wait $!
}

# step TITLE COMMAND…: announces it, runs it, stops the script where it fails.
step() {
	echo "== $1"
	group "${@:2}" || fail "$1: failed"
}

# All that the script and what it starts write is in one directory, which goes
# away however the script ends. Directly under /tmp: a socket's path may have no
# more than 107 bytes, and the server's user must be able to get there.
tmp=$(mktemp -d "/tmp/cims-${0##*/}.XXXXXX")
cleanup() {
	trap '' INT TERM HUP # a second Ctrl-C must not leave half of it behind
	local job
	for job in $(jobs -p); do
		kill -KILL -- "-$job" 2>/dev/null || true # nothing to lose: its files are in $tmp
		wait "$job" 2>/dev/null || true
	done
	if [ -f "$tmp/pg/postmaster.pid" ]; then
		as_server "$pg/pg_ctl" -D "$tmp/pg" -m immediate stop >/dev/null 2>&1 || true
	fi
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# install APT DNF APK PACMAN BREW: the packages' names for each manager.
install() {
	echo "== installing $1"
	local sudo=
	[ "$(id -u)" = 0 ] || sudo='sudo -n'
	if have apt-get; then
		$sudo apt-get -qq update &&
			$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qqy -o DPkg::Lock::Timeout=300 \
				install --no-install-recommends $1
	elif have dnf; then $sudo dnf -qy install $2
	elif have apk; then $sudo apk -q add $3
	elif have pacman; then $sudo pacman -Sy --noconfirm --needed $4
	elif have brew; then brew install -q $5
	else return 1; fi >"$tmp/install.log" || { cat "$tmp/install.log"; return 1; }
}

# ------------------------------------------------------------- PostgreSQL

# find_postgres prints the directory of the server's programs: that of the PATH,
# or else the newest of those where packages hide them.
find_postgres() {
	local dir
	for dir in "$(dirname "$(command -v initdb || echo none/initdb)")" $(
		printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
			/opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin | sort -rV
	); do
		if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ]; then
			echo "$dir"
			return
		fi
	done
}

# as_server runs a command as the server's user: PostgreSQL refuses to be root,
# so root lends it an unprivileged user that exists already. From $tmp, since
# that user may not be able to read the directory where we are.
as_server() (
	cd "$tmp"
	if [ "$(id -u)" != 0 ]; then
		"$@"
	else
		su -s /bin/sh -c 'exec "$@"' -- "$pg_user" sh "$@"
	fi
)

start_postgres() {
	pg=$(find_postgres)
	if [ -z "$pg" ]; then
		install postgresql postgresql-server postgresql postgresql postgresql@17 || true
		pg=$(find_postgres)
	fi
	[ -n "$pg" ] || fail "PostgreSQL's server is not here and can't be installed: install it, or set CIMS_TEST_POSTGRES_URL"
	echo "== $("$pg/postgres" --version)"

	mkdir "$tmp/pg"
	if [ "$(id -u)" = 0 ]; then
		pg_user=nobody
		! id postgres >/dev/null 2>&1 || pg_user=postgres
		chown "$pg_user" "$tmp/pg"
		chmod 711 "$tmp"
	fi

	# Not every system has C.UTF-8; C sorts in the same way.
	local locale port
	for locale in C.UTF-8 C none; do
		[ $locale != none ] || { cat "$tmp/initdb.log"; fail "initdb failed"; }
		! as_server "$pg/initdb" -D "$tmp/pg" -U postgres --locale=$locale --encoding=UTF8 --auth=trust \
			--no-sync >"$tmp/initdb.log" 2>&1 || break
	done

	# A time zone that is neither UTC nor, most likely, this machine's: a time
	# that is written or read without its zone is then five hours off, and a
	# test sees it. fsync stays on: durability is among what is tested.
	cat >>"$tmp/pg/postgresql.conf" <<-EOF
		listen_addresses = '127.0.0.1'
		unix_socket_directories = '$tmp/pg'
		max_connections = 200
		timezone = 'Asia/Tashkent'
		log_timezone = 'Asia/Tashkent'
	EOF

	# Whether a port is free is known once the server has it. From below the
	# range that systems use for outgoing connections.
	for _ in 1 2 3 4 5 6 7 8; do
		port=$((20000 + RANDOM % 10000))
		if as_server "$pg/pg_ctl" -D "$tmp/pg" -l "$tmp/pg/log" -o "-p $port" -w start >/dev/null 2>&1; then
			export CIMS_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
			return
		fi
	done
	cat "$tmp/pg/log"
	fail "PostgreSQL does not start"
}
