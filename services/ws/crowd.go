package ws

import "sync"

// crowd counts connections, in all and by place, and says when there are too many. A connection is in the crowd from
// accept on, and takes a seat when its request is known to be good: those that are only to be told why they can't have a
// seat need room too, a little.
type crowd struct {
	maxSeats int // in all
	perPlace int // 0 is no limit

	mu     sync.Mutex
	open   int // seated or not
	seats  int
	places map[place]tally
}

type tally struct{ open, seats int32 }

// Room for connections without a seat, beyond the limits of those with one.
const (
	standing         = 1024
	standingPerPlace = 64
)

func newCrowd(maxSeats, perPlace int) *crowd {
	return &crowd{maxSeats: maxSeats, perPlace: perPlace, places: make(map[place]tally)}
}

// enter counts a connection in, if there is room for it.
func (c *crowd) enter(p place) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.maxSeats+standing || c.counted(p) && int(c.places[p].open) >= c.perPlace+standingPerPlace {
		return false
	}
	c.open++
	c.change(p, 1, 0)
	return true
}

func (c *crowd) leave(p place, seated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if seated {
		c.seats--
		c.change(p, -1, -1)
		return
	}
	c.change(p, -1, 0)
}

// sit gives a connection a seat, unless the crowd or the place is full. The connection counts for place p from then on,
// whatever it was before.
func (c *crowd) sit(before, p place) *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.seats >= c.maxSeats:
		return &refusedFull
	case c.counted(p) && int(c.places[p].seats) >= c.perPlace:
		return &refusedPlace
	}
	c.seats++
	c.change(before, -1, 0)
	c.change(p, 1, 1)
	return nil
}

func (c *crowd) counted(p place) bool { return p != 0 && c.perPlace > 0 }

func (c *crowd) change(p place, open, seats int32) {
	if !c.counted(p) {
		return
	}
	t := c.places[p]
	t.open += open
	t.seats += seats
	if t == (tally{}) {
		delete(c.places, p) // or it would remember everybody
		return
	}
	c.places[p] = t
}
