package ovhtest

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"time"
)

// Fault is something that goes wrong with a request. Faults imitate the network and the load balancers in front of the
// API, so they come before authentication: a request without a valid signature meets them, too. All but CutBeforeRequest strike
// once the request has been read, so Exchanges shows its body, and whether its signature was valid.
type Fault struct {
	Method string        // "" matches every method
	Path   string        // as in access rules: "/me", "/domain/*"; "" matches every path
	Times  int           // how many requests meet it; 0 means one, negative all
	Delay  time.Duration // waited before whatever else; ended by Close, or the client's leaving, with nothing executed
	Status int           // of a response in place of the API's, nothing executed; 0: the API responds
	Header http.Header   // added to the response of Status, canonical keys; a nil value removes a header, even Date
	Body   string        // of the response of Status; Content-Type is JSON if it is JSON, else what net/http detects
	Cut    Cut           // 0: none
}

// Cut is a place where the connection is reset. The client sees ECONNRESET or an unexpected EOF; net/http's Transport
// repeats an idempotent request by itself if the connection was a reused one without a response yet.
type Cut int

const (
	// CutBeforeRequest resets when the header has arrived: nothing of the body is read, nothing executed.
	CutBeforeRequest Cut = iota + 1
	// CutAfterExecution resets in place of a response: if the request was authorized, its route was executed.
	CutAfterExecution
	// CutMidAnswer is CutAfterExecution once the header, with its Content-Length, and half of the response's body are sent. A
	// response without a body is not sent at all.
	CutMidAnswer
)

// Inject queues faults. A request meets the first that matches it, and only that one. Inject without faults drops those
// that are still waiting.
func (s *Server) Inject(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(faults) == 0 {
		s.faults = nil
	}
	for _, f := range faults {
		if f.Times == 0 {
			f.Times = 1
		}
		s.faults = append(s.faults, f)
	}
}

// InjectFunc lets f choose the fault of every request, nil for none, in which case one of Inject's may strike. f is
// asked once for each request, concurrently, before the body is read, and must not read it. The Method, Path and Times
// of the fault are not looked at. A nil f injects nothing.
func (s *Server) InjectFunc(f func(r *http.Request) *Fault) {
	s.locked(func() { s.faultFunc = f })
}

// fault is the fault that r meets, the zero one for none.
func (s *Server) fault(r *http.Request) Fault {
	s.mu.Lock()
	choose := s.faultFunc
	s.mu.Unlock()
	if choose != nil {
		if f := choose(r); f != nil {
			return *f
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.faults, func(f Fault) bool {
		return (f.Method == "" || f.Method == r.Method) && (f.Path == "" || covers(f.Path, apiPath(r)))
	})
	if i < 0 {
		return Fault{}
	}
	f := s.faults[i]
	if s.faults[i].Times--; s.faults[i].Times == 0 {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	return f
}

// wait delays r, and gives it up if the client leaves or the server closes.
func (f Fault) wait(r *http.Request) {
	if f.Delay <= 0 {
		return
	}
	t := time.NewTimer(f.Delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

func (f Fault) writeTo(w http.ResponseWriter) {
	if !json.Valid([]byte(f.Body)) {
		w.Header().Del("Content-Type")
	}
	maps.Copy(w.Header(), f.Header)
	w.WriteHeader(f.Status)
	io.WriteString(w, f.Body)
}

func sendHalf(w *recorder, whole *httptest.ResponseRecorder) {
	body := whole.Body.Bytes()
	if len(body) == 0 {
		return
	}
	maps.Copy(w.Header(), whole.Result().Header)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(whole.Code)
	w.Write(body[:len(body)/2])
	w.Flush()
}

type connKey struct{}

// reset cuts the connection of r, unread and unsent data with it, and ends the handler.
func reset(r *http.Request) {
	conn := r.Context().Value(connKey{}).(net.Conn)
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	conn.(interface{ SetLinger(int) error }).SetLinger(0)
	conn.Close()
	panic(http.ErrAbortHandler)
}
