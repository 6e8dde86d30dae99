//go:build unix

package faults

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// action is the proxy's action at the statement it waits for.
type action int

const (
	pass       action = iota
	cutBefore         // close: the statement does not get there
	cutAfter          // let it be carried out, then close in place of the answer
	endAfter          // let it be carried out, then say that the server shuts down in place of "ready"
	stall             // pass nothing on any more, neither way, and close nothing
	stallAfter        // let it be carried out, then likewise
	slow              // let each part of an answer take its time
)

const slowness = 50 * time.Millisecond

// proxy stands between the library and PostgreSQL. It understands just enough of
// the protocol to know which statement passes.
type proxy struct {
	listener net.Listener
	target   string
	group    sync.WaitGroup

	mu     sync.Mutex
	match  func(statement string) bool // nil: nothing
	action action
	fired  chan struct{}
	conns  []net.Conn
	closed bool
}

// newProxy listens, and returns the URL of the database through it.
func newProxy(t *testing.T, target string) (*proxy, string) {
	t.Helper()
	parsed, err := url.Parse(target)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	require.NoError(t, err)
	p := &proxy{listener: listener, target: parsed.Host}
	parsed.Host = listener.Addr().String()
	p.group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.group.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(p.close)
	return p, parsed.String()
}

func (p *proxy) close() {
	_ = p.listener.Close() // may be closed already
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cut()
	p.group.Wait()
}

// cut closes all connections that there are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close() // may be closed already
	}
}

// at arms the proxy for the next statement that matches; the channel is closed
// when it has passed, or not.
func (p *proxy) at(match func(statement string) bool, do action) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match, p.action, p.fired = match, do, make(chan struct{})
	return p.fired
}

func isCommit(statement string) bool { return strings.EqualFold(statement, "commit") }

// isIntake is the statement that stores new leads.
func isIntake(statement string) bool {
	return strings.Contains(statement, "INTO customer (") || strings.Contains(statement, `INTO "customer" (`)
}

// isRead is the statement that lists customers.
func isRead(statement string) bool {
	return strings.HasPrefix(statement, "SELECT") && strings.Contains(statement, "FROM customer AS c")
}

func isConnection(statement string) bool { return statement == startup }

const startup = "(startup)"

// hit reports whether this is the statement, and disarms the trap.
func (p *proxy) hit(statement string) (action, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if statement == "" || p.match == nil || !p.match(statement) {
		return pass, false
	}
	p.match = nil
	close(p.fired)
	return p.action, true
}

// keep remembers a connection, to be closed in the end.
func (p *proxy) keep(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conn)
	if p.closed {
		_ = conn.Close() // too late
	}
}

func (p *proxy) serve(client net.Conn) {
	p.keep(client)
	server, err := net.Dial("tcp", p.target) //nolint:noctx // on this machine
	if err != nil {
		_ = client.Close()
		return
	}
	p.keep(server)
	c := &pair{client: client, server: server}
	p.group.Go(c.answers)
	p.statements(c)
}

// pair is a client's connection and the one to the server.
type pair struct {
	client, server net.Conn

	mu    sync.Mutex
	doing action // pass, until the statement has come
}

func (c *pair) close() {
	_ = c.client.Close() // either may be closed already
	_ = c.server.Close()
}

func (c *pair) set(do action) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doing = do
}

func (c *pair) get() action {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doing
}

// message reads one message. The first of a client has no kind.
func message(from io.Reader, first bool) (kind byte, whole []byte, err error) {
	head := make([]byte, 5)
	if first {
		head = head[:4]
	}
	if _, err := io.ReadFull(from, head); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
	_, err = io.ReadFull(from, body)
	return head[0], slices.Concat(head, body), err
}

// statements passes on the client's messages.
func (p *proxy) statements(c *pair) {
	defer c.close()
	prepared := map[string]string{}
	for first := true; ; first = false {
		kind, whole, err := message(c.client, first)
		if err != nil {
			return
		}
		statement := ""
		switch texts := strings.Split(string(whole[min(5, len(whole)):]), "\x00"); {
		case first:
			statement = startup
		case kind == 'Q': // simple: the text
			statement = texts[0]
		case kind == 'P': // prepare: name, text
			prepared[texts[0]] = texts[1]
		case kind == 'B': // bind: portal, name, …
			statement = prepared[texts[1]]
		}
		if do, hit := p.hit(statement); hit {
			c.set(do)
		}
		switch do := c.get(); {
		case do == cutBefore:
			return
		case do == stall:
			_, _ = io.Copy(io.Discard, c.client) // till it is closed
			return
		}
		if _, err := c.server.Write(whole); err != nil {
			return
		}
	}
}

// answers passes on the server's messages.
func (c *pair) answers() {
	for {
		kind, whole, err := message(c.server, false)
		if err != nil {
			if do := c.get(); do != stall && do != stallAfter {
				c.close()
			}
			return
		}
		ready := kind == 'Z'
		switch do := c.get(); {
		case do == stall || do == stallAfter:
			continue
		case do == cutAfter:
			if ready {
				c.close()
				return
			}
			continue
		case do == endAfter:
			if ready {
				_, _ = c.client.Write(shutdown()) // closed at once, whether it arrives or not
				c.close()
				return
			}
		case do == slow:
			time.Sleep(slowness)
		}
		if _, err := c.client.Write(whole); err != nil {
			c.close()
			return
		}
	}
}

// shutdown returns the message with which a server disconnects its clients.
func shutdown() []byte {
	body := []byte("SFATAL\x00VFATAL\x00C57P01\x00Mterminating connection due to administrator command\x00\x00")
	return append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(len(body)+4)), body...) //nolint:gosec // short
}
