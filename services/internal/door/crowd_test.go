package door

import "testing"

// TestCrowdOfVisitors fills an edge with connections that ask for nothing.
func TestCrowdOfVisitors(t *testing.T) {
	c := NewCrowd(10, 2)
	const somebody, other = Place(1), Place(2)
	for i := range 2 + standingPerPlace {
		if !c.Enter(somebody) {
			t.Fatalf("visitor %d is not let in", i)
		}
	}
	if c.Enter(somebody) {
		t.Error("a place has as many visitors as it likes")
	}
	if !c.Enter(other) || c.Sit(other, other) != Seated {
		t.Error("it keeps others out")
	}
	n := 0
	for c.Enter(0) {
		n++
	}
	if n != 10+standing-(2+standingPerPlace+1) {
		t.Errorf("%d visitors that are not counted by place", n)
	}
}

// TestSeats fills the seats of a place, and then all there are.
func TestSeats(t *testing.T) {
	c := NewCrowd(3, 2)
	f := func(p Place, want Room) {
		t.Helper()
		if !c.Enter(0) {
			t.Fatal("not let in")
		}
		got := c.Sit(0, p)
		if got != want {
			t.Errorf("place %d: %d, want %d", p, got, want)
		}
		if got != Seated {
			c.Leave(0, false)
		}
	}
	f(1, Seated)
	f(1, Seated)
	f(1, PlaceFull)
	f(2, Seated)
	f(3, Full)
	c.Leave(1, true)
	f(1, Seated)
	for _, p := range []Place{1, 1, 2} {
		c.Leave(p, true)
	}
	if open, seats, places := c.Sizes(); open != 0 || seats != 0 || places != 0 {
		t.Errorf("when all have gone: %d open, %d seats, %d places", open, seats, places)
	}
}
