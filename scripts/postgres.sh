# scripts/test and scripts/bench share this file. It creates a temporary directory, which is
# always removed at the end, and starts PostgreSQL in it. Source it with bash from the root
# of the repository. It defines $tmp, group, step, install and start_postgres.

fail() { echo "scripts/${0##*/}: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# group COMMAND…: runs the command as a job in a separate process group. bash runs a trap
# only after the foreground command has ended, but interrupts a wait at once. A process group
# can be killed with everything that go test has started.
group() {
	set -m; "$@" & set +m
	wait $!
}

# step TITLE COMMAND…: prints the title, runs the command, and stops the script on failure.
step() {
	echo "== $1"
	group "${@:2}" || fail "$1: failed"
}

# The script and its children write only to this directory, which is always removed at the
# end. It is directly under /tmp, since the path of a socket is limited to 107 bytes and the
# server's user needs access.
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

# as_server runs a command as the server's user. PostgreSQL refuses to run as root, so root
# uses an existing unprivileged user. The command runs in $tmp, since that user may not be
# able to read the current directory.
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

	# The time zone is neither UTC nor, most likely, that of this machine. A time
	# written or read without its zone is then hours off, and a test fails. fsync
	# stays on, since tests cover durability.
	cat >>"$tmp/pg/postgresql.conf" <<-EOF
		listen_addresses = '127.0.0.1'
		unix_socket_directories = '$tmp/pg'
		max_connections = 200
		timezone = 'Asia/Tashkent'
		log_timezone = 'Asia/Tashkent'
	EOF

	# Another program may take a free port before the server does, so several are
	# tried. They are below the range for outgoing connections.
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
