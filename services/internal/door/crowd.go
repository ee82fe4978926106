package door

import "sync"

// Crowd counts connections, in all and by place, and says when there are too many. A connection is in the crowd from
// accept on, and takes a seat when its request is known to be good: those that are only to be told why they can't have a
// seat need room too, a little.
type Crowd struct {
	maxSeats int // in all
	perPlace int // 0 is no limit

	mu     sync.Mutex
	open   int // seated or not
	seats  int
	places map[Place]tally
}

type tally struct{ open, seats int32 }

// Room for connections without a seat, beyond the limits of those with one.
const (
	standing         = 1024
	standingPerPlace = 64
)

// NewCrowd has so many seats in all, and so many for one place; perPlace 0 is no limit.
func NewCrowd(maxSeats, perPlace int) *Crowd {
	return &Crowd{maxSeats: maxSeats, perPlace: perPlace, places: make(map[Place]tally)}
}

// Enter counts a connection in, if there is room for it.
func (c *Crowd) Enter(p Place) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.maxSeats+standing || c.counted(p) && int(c.places[p].open) >= c.perPlace+standingPerPlace {
		return false
	}
	c.open++
	c.change(p, 1, 0)
	return true
}

// Leave counts it out of the place that it counted for last.
func (c *Crowd) Leave(p Place, seated bool) {
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

// Room says whether there is a seat.
type Room uint8

// What may come of asking for a seat.
const (
	Seated    Room = iota
	Full           // everyone's seats are taken
	PlaceFull      // this place's are
)

// Sit gives a connection a seat, unless the crowd or the place is full. With a seat the connection counts for place p from
// then on, whatever it was before.
func (c *Crowd) Sit(before, p Place) Room {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.seats >= c.maxSeats:
		return Full
	case c.counted(p) && int(c.places[p].seats) >= c.perPlace:
		return PlaceFull
	}
	c.seats++
	c.change(before, -1, 0)
	c.change(p, 1, 1)
	return Seated
}

// Move has a connection that has a seat count for another place, unless that is full.
func (c *Crowd) Move(from, to Place) Room {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from != to && c.counted(to) && int(c.places[to].seats) >= c.perPlace {
		return PlaceFull
	}
	c.change(from, -1, -1)
	c.change(to, 1, 1)
	return Seated
}

// Sizes are how many connections there are, how many of them have a seat, and from how many places that are counted.
func (c *Crowd) Sizes() (open, seats, places int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.seats, len(c.places)
}

func (c *Crowd) counted(p Place) bool { return p != 0 && c.perPlace > 0 }

func (c *Crowd) change(p Place, open, seats int32) {
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
