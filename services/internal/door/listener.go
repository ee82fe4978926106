package door

import (
	"errors"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Listener takes connections until it is closed, and is not the worse for errors that pass, such as too many open files: it
// waits for that, longer each time.
type Listener struct {
	net.Listener
	log    *zap.Logger
	close  sync.Once
	closed chan struct{}
}

// Listen takes ln over.
func Listen(ln net.Listener, log *zap.Logger) *Listener {
	return &Listener{Listener: ln, log: log, closed: make(chan struct{})}
}

// Accept waits for the next connection. The error is net.ErrClosed. It is for one goroutine.
func (l *Listener) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		conn, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		l.log.Warn("accept", zap.Error(err), zap.Duration("pause", pause))
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-time.After(pause):
		}
	}
}

// Close ends Accept.
func (l *Listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
