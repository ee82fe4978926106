package market

import (
	"errors"
	"strconv"
	"time"
)

// State is how an instrument or one of its topics is doing.
type State uint8

// The states. Live, Halted and Delisted are the venue's word; Stale says that what we show may be old or wrong; Quiet says
// that the source is alive and the instrument is silent. The numbers are the wire's.
const (
	Live State = iota
	Quiet
	Stale
	Halted
	Delisted
)

var stateNames = [...]string{"live", "quiet", "stale", "halted", "delisted"}

// String returns the state's name on the wire, or "unknown".
func (s State) String() string { return name(stateNames[:], int(s)) }

// ParseState reads a state's name.
func ParseState(s string) (State, error) {
	i, err := parseName(stateNames[:], s, "state")
	return State(i), err
}

// Reason says why a book is stale or trades are missing. The numbers are the wire's.
type Reason uint8

// The reasons.
const (
	NoReason   Reason = iota
	Quarantine        // a record of the instrument could not be used
	Venue             // the venue's own sequence or trade ids jump
	Session           // a new venue connection without proof of continuity
	Retention         // Kafka deleted input that was never read
	Slow              // the client read too slowly
	Checksum          // the venue's checksum does not match
	Mismatch          // a snapshot disagrees with the live book
	Crossed           // the best bid is not below the best ask
	Start             // nothing received yet
	Silent            // no data, clock or heartbeat in time
	Upgrade           // the algorithm changed
)

var reasonNames = [...]string{
	"", "quarantine", "venue", "session", "retention", "slow", "checksum", "mismatch", "crossed", "start", "silent", "upgrade",
}

// String returns the reason's name on the wire; NoReason is empty.
func (r Reason) String() string { return name(reasonNames[:], int(r)) }

// ParseReason reads a reason's name.
func ParseReason(s string) (Reason, error) {
	i, err := parseName(reasonNames[:], s, "reason")
	return Reason(i), err
}

// Interval is the length of a bar. The numbers are the wire's.
type Interval uint8

// The intervals, shortest first.
const (
	Second Interval = iota
	Minute
	Minutes5
	Minutes15
	Hour
	Hours4
	Day
	NumIntervals = int(Day) + 1
)

var (
	intervalNames = [NumIntervals]string{"1s", "1m", "5m", "15m", "1h", "4h", "1d"}
	intervals     = [NumIntervals]time.Duration{
		time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour, 24 * time.Hour,
	}
)

// Duration returns the interval's length; i must be one of the constants.
func (i Interval) Duration() time.Duration { return intervals[i] }

// Valid tells whether i is one of the constants.
func (i Interval) Valid() bool { return int(i) < NumIntervals }

// String returns the interval's name on the wire, such as 1m.
func (i Interval) String() string { return name(intervalNames[:], int(i)) }

// ParseInterval reads an interval's name.
func ParseInterval(s string) (Interval, error) {
	i, err := parseName(intervalNames[:], s, "interval")
	return Interval(i), err
}

// Channel is a kind of data a client subscribes to.
type Channel uint8

// The channels.
const (
	Books Channel = iota
	BBOs
	Trades
	Tickers
	Bars
	Statuses
	NumChannels = int(Statuses) + 1
)

var channelNames = [NumChannels]string{"book", "bbo", "trades", "ticker", "bars", "status"}

// String returns the channel's name on the wire.
func (c Channel) String() string { return name(channelNames[:], int(c)) }

// ParseChannel reads a channel's name.
func ParseChannel(s string) (Channel, error) {
	i, err := parseName(channelNames[:], s, "channel")
	return Channel(i), err
}

// ErrName is what a Parse function returns for a name it does not know.
var ErrName = errors.New("unknown")

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}

func parseName(names []string, s, what string) (int, error) {
	for i, n := range names {
		if n == s {
			return i, nil
		}
	}
	return 0, &nameError{what, s}
}

type nameError struct{ what, name string }

func (e *nameError) Error() string { return "unknown " + e.what + " " + quote(e.name) }
func (e *nameError) Unwrap() error { return ErrName }

// quote keeps what a peer sent short in an error, and on one line.
func quote(s string) string {
	if len(s) > 40 {
		return strconv.Quote(s[:40]) + "..."
	}
	return strconv.Quote(s)
}
