package swarm

import (
	"fmt"

	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// symbols are the instruments of a swarm's topics. Messages name them: by their symbol in JSON, and in SBE by a number of the
// server's, which its acknowledgements tell.
type symbols struct {
	names  []string       // by topic
	topics map[string]int // by name
	insts  map[uint32]int // topics by number
	epochs []uint32       // by topic: of the server's numbering
	batch  int            // topics of a request, at most
}

// newSymbols is about so many topics. Without names they are the lab's, whose numbers are known.
func newSymbols(names []string, topics int) (y symbols, err error) {
	if names != nil && len(names) != topics {
		return y, fmt.Errorf("%d symbols for %d topics", len(names), topics)
	}
	y = symbols{topics: make(map[string]int, topics), insts: make(map[uint32]int, topics), epochs: make([]uint32, topics)}
	longest := 0
	for t := range topics {
		name := target.Sym(t)
		if names != nil {
			name = names[t]
		} else {
			y.insts[uint32(t)+1], y.epochs[t] = t, target.Epoch
		}
		if _, twice := y.topics[name]; twice {
			return y, fmt.Errorf("symbol %q is there twice", name)
		}
		y.names, y.topics[name] = append(y.names, name), t
		longest = max(longest, len(name))
	}
	y.batch = max(1, maxRequest/(perTopic+longest))
	return y, nil
}

// A request has 4 KiB at most; a topic with its place takes up so many bytes and its name.
const (
	maxRequest = 4096 - 64
	perTopic   = 90
)

// bySym is the topic of a symbol; -1 when there is none.
func (y *symbols) bySym(sym []byte) int {
	if t, ok := y.topics[string(sym)]; ok {
		return t
	}
	return -1
}

// byInst is the topic of an instrument's number; -1 when there is none.
func (y *symbols) byInst(inst uint32) int {
	if t, ok := y.insts[inst]; ok {
		return t
	}
	return -1
}

// learn takes from an acknowledgement what the server calls an instrument.
func (y *symbols) learn(row *wire.Row) (topic int, err error) {
	t, ok := y.topics[row.Sym]
	if !ok {
		return 0, fmt.Errorf("instrument %q was not asked for", row.Sym)
	}
	y.insts[row.Inst] = t
	if row.Sequence.Epoch > 0 { // there is none before the first message
		y.epochs[t] = row.Sequence.Epoch
	}
	return t, nil
}

// place is a client's place in a topic.
func (y *symbols) place(topic int, seq uint32) market.Sequence {
	return market.Sequence{Epoch: y.epochs[topic], Seq: uint64(seq)}
}
