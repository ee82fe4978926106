package store

import "sync"

// maxWakes bounds what waits to be told.
const maxWakes = 1 << 16

// wakes tells one reader which keys something happened to. A key that waits already is not added again, and beyond maxWakes
// none is.
type wakes[K comparable] struct {
	out  chan K
	end  chan struct{}
	done chan struct{}
	some chan struct{} // has room for one

	mu      sync.Mutex
	waiting map[K]struct{}
}

func newWakes[K comparable]() *wakes[K] {
	w := &wakes[K]{out: make(chan K), end: make(chan struct{}), done: make(chan struct{}), some: make(chan struct{}, 1), waiting: map[K]struct{}{}}
	go w.run()
	return w
}

func (w *wakes[K]) add(k K) {
	w.mu.Lock()
	if len(w.waiting) < maxWakes {
		w.waiting[k] = struct{}{}
	}
	w.mu.Unlock()
	select {
	case w.some <- struct{}{}:
	default:
	}
}

func (w *wakes[K]) take() (k K, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k = range w.waiting {
		delete(w.waiting, k)
		return k, true
	}
	return k, false
}

func (w *wakes[K]) run() {
	defer close(w.done)
	for {
		k, ok := w.take()
		if !ok {
			select {
			case <-w.some:
				continue
			case <-w.end:
				return
			}
		}
		select {
		case w.out <- k:
		case <-w.end:
			return
		}
	}
}

func (w *wakes[K]) close() {
	close(w.end)
	<-w.done
}
