package decide

// InForce are the commits whose objects stay in force while the wanted one is not applied: the one that was written in part, if
// there is one, and the last one all of which was.
func (s *State) InForce() []string {
	var out []string
	if s.Written != "" {
		out = append(out, s.Written)
	}
	if s.Applied != "" && s.Applied != s.Written {
		out = append(out, s.Applied)
	}
	return out
}

// Upheld are those objects of a commit in force that are kept as it says: those that were last in order, or written, as just that.
// known gives the digest of an object as it was then; empty if nobody knows. So what was written of a newer commit is not
// undone for an older one, and what nobody knows of is left alone until a commit is applied.
func Upheld(rendered []Rendered, known func(ID) string) []Rendered {
	out := make([]Rendered, 0, len(rendered))
	for _, r := range rendered {
		if known(r.ID) == r.Digest {
			out = append(out, r)
		}
	}
	return out
}
