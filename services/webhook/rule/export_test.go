package rule

// ImageOf returns an instrument's image as it would be now, without the offset.
func (p *Partition) ImageOf(inst uint32) []byte { return p.insts[inst].appendImage(nil, 0) }

// Pending counts the rules that wait for hold_for or for the end of a cooldown.
func (p *Partition) Pending() (n int) {
	for _, id := range p.index {
		n += p.lines[id].queued
	}
	return n
}
