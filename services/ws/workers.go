package ws

import (
	"runtime"
	"sync"

	"github.com/lxzan/gws"
)

// workers answer the requests of all clients. A goroutine that only reads needs 2 KiB of stack; one that has parsed JSON
// and subscribed keeps what that took, and there is a reading goroutine for each client. So it hands a request over and
// waits: a client's requests are answered in order, and no more than one of them is in memory.
type workers struct {
	tasks   chan *task
	spare   sync.Pool // of *task
	running sync.WaitGroup
}

type task struct {
	session *session
	message *gws.Message
	done    chan struct{}
}

func newWorkers() *workers {
	return &workers{tasks: make(chan *task), spare: sync.Pool{New: func() any { return &task{done: make(chan struct{}, 1)} }}}
}

// start starts the goroutines. stop ends them, when nobody calls answer any more.
func (w *workers) start() {
	for range 4 * runtime.GOMAXPROCS(0) {
		w.running.Go(func() {
			for t := range w.tasks {
				t.session.answer(t.message)
				t.done <- struct{}{} // has room
			}
		})
	}
}

func (w *workers) stop() {
	close(w.tasks)
	w.running.Wait()
}

// answer has a worker answer a message, and waits for that.
func (w *workers) answer(c *session, m *gws.Message) {
	t := w.spare.Get().(*task)
	t.session, t.message = c, m
	w.tasks <- t
	<-t.done
	t.session, t.message = nil, nil
	w.spare.Put(t)
}
