package store

import (
	"errors"
	"time"
)

// Lease is the right to be the only owner of a partition or of a delivery slot. Each new owner has a greater epoch.
type Lease struct {
	Kind  string // KindPartition or KindSlot
	N     int
	Epoch int64
}

// The kinds of leases.
const (
	KindPartition = "partition"
	KindSlot      = "slot"
)

// Slots is how many delivery slots there are.
const Slots = 64

// SlotOf is the slot of an endpoint's deliveries.
func SlotOf(endpoint int64) int {
	return int(uint64(endpoint) * 0x9e3779b97f4a7c15 >> 58) // an id's low bits are the process's number
}

// ErrFenced is what commits return that name an epoch which is not the lease's any more.
var ErrFenced = errors.New("the lease has another owner")

// Job is a delivery that is due, with what it tells.
type Job struct {
	Delivery Delivery
	Event    Event
}

// Outcome is what came of one attempt of one delivery. A delivery that is not queued any more, because it was cancelled
// meanwhile, stays as it is but for the attempt and what State says if it was delivered.
type Outcome struct {
	Delivery int64
	Endpoint int64
	State    DeliveryState // queued again until NextAt, held, delivered or exhausted
	NextAt   time.Time
	Attempt  Attempt // counts: Attempts and Round grow by one

	Health  *Health // of the endpoint; nil: unchanged
	Disable string  // the endpoint, and why: "gone" or "failing"; empty: not
	Events  []Event // for operators; ID, Tenant, Type, About and Body are set. They don't go to the endpoint they are about
}
