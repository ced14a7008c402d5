package savedmodel

import (
	"cmp"
	"slices"
)

// Unrestored lists, sorted, the variables of TensorFlow 2 that a signature reads and that have no
// value after a load: nothing that runs then, such as the restore operation, takes them. Keras 3
// leaves them so when tf.saved_model.save writes its models, since it saves copies of them. It
// knows no such variable of a graph of TensorFlow 1, whose signatures may set variables.
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

// variablesFor are the variables, sorted, that tensors of b are computed from, by the names that
// sessions know them by.
func (b *body) variablesFor(tensors []string) []string {
	var names []string
	for name := range b.needs(tensors) {
		if n := b.nodes[name]; n.op == "VarHandleOp" {
			names = insertSorted(names, cmp.Or(string(n.attr["shared_name"].GetS()), name))
		}
	}
	return names
}
