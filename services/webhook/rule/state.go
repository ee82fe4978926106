package rule

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/tickwire/tickwire/pkg/market"
)

// State is where the evaluation of a rule stands. It is comparable; the zero State is that of a new rule: armed, and never
// fired. What a rule was last compared with is not in it: that is the series' and the same for all its rules.
type State struct {
	ArmSeq   uint32      // fires so far
	Disarmed bool        // fired, and the value has not gone back beyond the hysteresis since
	Pending  bool        // the condition holds since Since, and hold_for or the cooldown is waited for
	Since    market.Time // of a pending rule
	Until    market.Time // the end of the cooldown; 0 before the first fire of a rule that has one
}

const (
	stateDisarmed = 1 << iota
	statePending
	stateUntil
	stateFlags = stateDisarmed | statePending | stateUntil
)

var errState = errors.New("not the state of a rule")

// Append appends the state's bytes, at most 24.
func (s State) Append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, 0)
	dst = binary.AppendUvarint(dst, uint64(s.ArmSeq))
	flags := byte(0)
	if s.Disarmed {
		flags |= stateDisarmed
	}
	if s.Pending {
		flags |= statePending
		dst = binary.AppendVarint(dst, int64(s.Since))
	}
	if s.Until != 0 {
		flags |= stateUntil
		dst = binary.AppendVarint(dst, int64(s.Until))
	}
	dst[at] = flags
	return dst
}

// DecodeState reads what Append wrote, and nothing else. No bytes are the state of a new rule.
func DecodeState(b []byte) (s State, err error) {
	if len(b) == 0 {
		return State{}, nil
	}
	r := reader{b: b}
	flags := r.byte()
	r.check(flags <= stateFlags)
	s.ArmSeq = uint32(r.uvarint(math.MaxUint32))
	s.Disarmed, s.Pending = flags&stateDisarmed != 0, flags&statePending != 0
	r.check(!s.Disarmed || !s.Pending)
	if s.Pending {
		s.Since = market.Time(r.varint())
	}
	if flags&stateUntil != 0 {
		s.Until = market.Time(r.varint())
		r.check(s.Until != 0)
	}
	if r.bad || len(r.b) > 0 {
		return State{}, errState
	}
	return s, nil
}
