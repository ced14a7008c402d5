package savedmodel

import (
	"cmp"
	"slices"
)

// Unrestored returns the variables, sorted, that a signature reads but that have no value after a
// load, because neither the restore operation nor the initialization uses them. tf.saved_model.save
// leaves variables of Keras 3 so, because Keras 3 saves copies of them.
//
// It returns nothing for a graph of TensorFlow 1, whose signatures may set variables.
func (g *Graph) Unrestored(signature string) []string {
	restore := g.main.nodes[nodeOf(g.startup[0])]
	if !g.TF2 || restore == nil || !isPlainCall(restore.op) {
		return nil
	}
	var outputs []string
	for _, info := range g.Signatures[signature].Outputs {
		outputs = append(outputs, info.Name)
	}
	set := make(map[string]bool)
	for _, name := range g.main.variablesFor(g.startup) {
		set[name] = true
	}
	return slices.DeleteFunc(g.main.variablesFor(outputs), func(name string) bool { return set[name] })
}

// variablesFor returns the variables, sorted, that tensors of b are computed from. The names are
// those in a session.
func (b *body) variablesFor(tensors []string) []string {
	var names []string
	for name := range b.needs(tensors) {
		if n := b.nodes[name]; n.op == "VarHandleOp" {
			names = insertSorted(names, cmp.Or(string(n.attr["shared_name"].GetS()), name))
		}
	}
	return names
}
