package profile

// fewUnseen is the part of a profile, one in so many, that one more run may add: beyond that a start waits for what is missing longer than for anything else.
const fewUnseen = 200

// Unseen is about how many bytes one more run would touch that none of the profile's runs has. What differs from run to run shows in what only one of them touched: so much is found n times
// in n runs, and the next one is likely to find an n-th of it (the estimate of Good and Turing). It is 0 for a profile of a single run, which says nothing of others, and is only right for one
// that was merged without leaving out what few runs touched.
func (p *Profile) Unseen() int64 {
	n := int64(runs(p.Runs))
	if n == 1 {
		return 0
	}
	var once int64
	for _, e := range p.Disjoint() {
		if runs(e.Runs) == 1 && e.Kind != KindAround { // which may not have been touched at all
			once = min(once, maxBytes) + e.Len
		}
	}
	return once / n
}

// Enough reports whether one more run is likely to touch hardly anything that none of the profile's runs has: no more than a 200th of its bytes, by [Profile.Unseen].
func (p *Profile) Enough() bool {
	_, bytes := p.Totals()
	return p.Unseen() <= bytes/fewUnseen
}
