package rule

// ImageOf returns an instrument's image as it would be now, without the offset.
func (p *Partition) ImageOf(inst uint32) []byte { return p.insts[inst].appendImage(nil, 0) }
