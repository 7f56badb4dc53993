package ovhtest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// pipes is a listener whose connections stay in memory.
type pipes struct {
	address net.Addr
	arrived chan net.Conn
	closed  chan struct{}
	close   sync.Once
}

var lastPipe atomic.Int32

// newPipes has an address that nobody listens at, and another one at each call, since clients tell servers apart by their host.
func newPipes() *pipes {
	return &pipes{
		address: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1 + int(lastPipe.Add(1)%1000)},
		arrived: make(chan net.Conn),
		closed:  make(chan struct{}),
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.arrived:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return p.address }

// dial returns what a socket would: the same errors, so that a client treats them alike.
func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	reset := new(atomic.Bool)
	select {
	case p.arrived <- end{server, p.address, reset}:
		return end{client, p.address, reset}, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: p.address, Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: p.address, Err: ctx.Err()}
	}
}

// end is one end of a connection in memory.
type end struct {
	net.Conn
	address net.Addr
	reset   *atomic.Bool // of both ends
}

func (e end) LocalAddr() net.Addr  { return e.address }
func (e end) RemoteAddr() net.Addr { return e.address }

func (e end) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	return n, e.cut("read", err)
}

func (e end) Write(b []byte) (int, error) {
	n, err := e.Conn.Write(b)
	return n, e.cut("write", err)
}

func (e end) cut(op string, err error) error {
	if err != nil && e.reset.Load() {
		return &net.OpError{Op: op, Net: "tcp", Addr: e.address, Err: syscall.ECONNRESET}
	}
	return err
}

// SetLinger makes Close a reset, as 0 does for a net.TCPConn.
func (e end) SetLinger(int) error {
	e.reset.Store(true)
	return nil
}
