// Package rule evaluates price alerts: thresholds on scalar series of instruments, exactly and deterministically. It does no
// I/O and reads no clock: what it does is a function of the records of md.events, and of which rules were added between
// which of them. docs/PROTOCOL.md, section 16, says what rules mean, in the order in which a record is dealt with.
//
// A [Partition] belongs to one owner, who gives it the records one after the other with Apply and commits what that appends
// to an [Output], together with the offset, in one transaction. The next owner begins with what is committed: images
// (Restore), the records between them and the checkpoint (Replay), and the rules as they stood then (Add). Everything that
// series are made of is in the images, and what a rule was last compared with is its series' value, which follows from
// that: so a rule's [State] is a few bytes, and a restart at any record changes nothing.
//
// # How a value finds its rules
//
// A rule always waits for one thing, and that is a threshold in one direction. An armed crosses_above or at_or_above waits
// for the value to come up to its limit; when it has fired, for it to go down beyond limit and hysteresis; while hold_for
// runs, for it to go down below the limit. So a series has two indexes, of keys that a rising and a falling value reach:
//
//	                          value
//	falling   ...  98  99 ▏     │     ▕ 103 104 ...      a value that comes down to 99 takes that key's rules out
//	rising    ...  97     ▏     │     ▕ 102 105 ...      one that comes up to 102 takes that key's
//	                     low         high
//	                      └── the bracket ──┘
//
// Keys on the other side of the value are those of crossings that must come from there. While the value stays within the
// bracket, which is cached, it passes no key, and that is all there is to most ticks: two comparisons. Otherwise the keys
// between the old value and the new are taken out of one index at once, their rules are looked at, and go where their new
// state wants them. Each index is blocks of 256 sorted keys, with the greatest key of each block beside them for the search:
//
//	tops   │  1750 │  2300 │  4100 │
//	       └───┼───┴───┼───┴───┼───┘
//	keys    ... 1750  ...     ...         256 int64 each
//	places  ...       ...     ...         256 uint32 each, of the rules
//
// A rule is 40 bytes; one with hysteresis, cooldown, hold_for or an expiry has 40 more. Rules that wait for the time are in
// a heap as well. A rule whose state does not fit the value that the index stands at, such as a new at_or_above whose limit
// has been reached already, is kept aside as fresh, and looked at with the next value.
package rule
