package why

import "strings"

// Tone says how a line is meant, for those who print in colour.
type Tone int

// The tones.
const (
	Plain Tone = iota
	// Good: as wanted.
	Good
	// Waiting: not as wanted yet, time will do it.
	Waiting
	// Bad: not as wanted, somebody should do something.
	Bad
	// Dim: background.
	Dim
)

// Node is one line of the answer and what explains it.
type Node struct {
	Text     string
	Tone     Tone
	Children []Node
}

// String renders the tree without colour.
func (n Node) String() string { return n.Render(func(_ Tone, text string) string { return text }) }

// Render renders the tree, one line per node; paint may surround each line's text with colour.
func (n Node) Render(paint func(Tone, string) string) string {
	var b strings.Builder
	b.WriteString(paint(n.Tone, n.Text) + "\n")
	renderChildren(&b, n.Children, "", paint)
	return b.String()
}

func renderChildren(b *strings.Builder, children []Node, indent string, paint func(Tone, string) string) {
	for i, c := range children {
		branch, below := "├─ ", "│  "
		if i == len(children)-1 {
			branch, below = "└─ ", "   "
		}
		b.WriteString(indent + branch + paint(c.Tone, c.Text) + "\n")
		renderChildren(b, c.Children, indent+below, paint)
	}
}

func (n *Node) add(tone Tone, text string) *Node {
	n.Children = append(n.Children, Node{Text: text, Tone: tone})
	return &n.Children[len(n.Children)-1]
}
