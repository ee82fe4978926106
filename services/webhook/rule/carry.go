package rule

// Carry takes over from old, which has the state and the rules of before a gap of the log, what the series were worth then.
// Rules that are added afterwards are as old had them; Arrive compares them with those values.
func (p *Partition) Carry(old *Partition, why string) {
	p.carried = make(map[lineKey]int64)
	for key, id := range old.index {
		l := old.lines[id]
		inst, ok := p.syms[l.in.status.Instrument.Sym]
		if !ok || !l.has {
			continue
		}
		in := p.insts[inst]
		key.inst = inst
		convert := rescaled(key.series.Scale(ScalesOf(&l.in.status.Instrument)), key.series.Scale(ScalesOf(&in.status.Instrument)))
		if v, exact := convert(l.value); exact {
			p.carried[key] = v
		}
	}
	p.Gap(why)
}

// resume gives a new line the value that its series had before the gap.
func (p *Partition) resume(l *line, key lineKey) {
	if v, ok := p.carried[key]; ok {
		l.value, l.has, l.pos, l.placed = v, true, v, true
	}
}

// Arrive ends what Carry began, once all rules have been added: the values that there are now are the first after the gap,
// and out gets what they do. A series that has none yet, such as those of a stale book, waits for its next one.
func (p *Partition) Arrive(out *Output) {
	p.carried, p.out = nil, out
	defer func() { p.out = nil }()
	first := len(out.Fires)
	for _, in := range p.list {
		if in.rules == 0 {
			continue
		}
		for _, g := range [...]group{tradeGroup, windowGroup, bookGroup} {
			if in.gaps&g == 0 || g == bookGroup && !in.live() {
				continue
			}
			worth := false
			for _, l := range *in.linesOf(g) {
				_, ok := l.now()
				worth = worth || ok
			}
			if !worth {
				continue
			}
			p.touch(in)
			in.gaps &^= g
			for _, l := range *in.linesOf(g) {
				p.evaluate(l, true)
			}
		}
	}
	p.ring()
	sortFires(out.Fires[first:])
}
