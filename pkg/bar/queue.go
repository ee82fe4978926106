package bar

import "slices"

// queue is a slice that also loses elements at the front without moving the rest each time. It reuses the front's room
// instead of growing, so a queue of steady length does not allocate. What was removed is not cleared: T has no pointers.
type queue[T any] struct {
	buf  []T
	head int
}

func (q *queue[T]) len() int { return len(q.buf) - q.head }

// live returns the elements, oldest first; valid until the next call that changes the queue.
func (q *queue[T]) live() []T { return q.buf[q.head:] }

func (q *queue[T]) newest() *T { return &q.buf[len(q.buf)-1] }

func (q *queue[T]) push(v T) { q.insert(q.len(), v) }

func (q *queue[T]) insert(i int, v T) {
	// An eighth of the buffer free at the front pays for moving the rest.
	if len(q.buf) == cap(q.buf) && q.head > len(q.buf)/8 {
		q.buf, q.head = q.buf[:copy(q.buf, q.live())], 0
	}
	q.buf = slices.Insert(q.buf, q.head+i, v)
}

// remove takes out live()[i:j].
func (q *queue[T]) remove(i, j int) {
	if i == 0 {
		q.head += j
	} else {
		q.buf = slices.Delete(q.buf, q.head+i, q.head+j)
	}
	if q.head == len(q.buf) {
		q.buf, q.head = q.buf[:0], 0
	}
}

// trim keeps the newest n elements.
func (q *queue[T]) trim(n int) {
	if over := q.len() - n; over > 0 {
		q.remove(0, over)
	}
}
