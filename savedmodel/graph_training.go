package savedmodel

import (
	"slices"
	"strings"
)

// TrainingOps returns the types of operation, sorted, that a signature runs although only training
// should: those that draw random numbers for its outputs, change variables, or normalize by the
// statistics of the batch. The answers of such a model differ from run to run, or with the other
// records of the batch.
//
// It checks only functions that are always called. So it finds nothing in a graph of TensorFlow 1,
// where a Switch may turn training off.
func (g *Graph) TrainingOps(signature string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var outputs []string
	for _, info := range g.Signatures[signature].Outputs {
		outputs = append(outputs, info.Name)
	}
	var found []string
	seen := make(map[string]bool)
	called := func(b *body, results []string) (functions []string) {
		for name := range b.needs(results) {
			n := b.nodes[name]
			if b != g.main && (drawsRandom[n.op] || normalizesByBatch(n)) {
				found = insertSorted(found, n.op)
			}
			if !isPlainCall(n.op) {
				continue
			}
			for _, f := range g.callees(n) {
				if g.functions[f] != nil && !seen[f] {
					seen[f] = true
					functions = append(functions, f)
				}
			}
		}
		return functions
	}
	for stack := called(g.main, outputs); len(stack) > 0; {
		b := g.functions[stack[len(stack)-1]]
		stack = append(stack[:len(stack)-1], called(b, b.results)...)
		for _, n := range b.order { // operations that run for their effect
			if changesVariable(n.op) {
				found = insertSorted(found, n.op)
			}
		}
	}
	return slices.Clip(found)
}

// drawsRandom are operations that give different numbers each time.
var drawsRandom = setOf(
	"RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "RandomShuffle", "RandomGamma",
	"RandomPoissonV2", "Multinomial", "RngReadAndSkip",
)

func changesVariable(op string) bool {
	switch op {
	case "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp":
		return true
	}
	return strings.HasPrefix(op, "ResourceApply") || strings.HasPrefix(op, "ResourceScatter")
}

// normalizesByBatch says whether a node is a batch normalization that uses the batch's mean. That
// is the default of is_training, which writers leave out.
func normalizesByBatch(n *graphNode) bool {
	switch n.op {
	case "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3":
		training := n.attr["is_training"]
		return training == nil || training.GetB()
	}
	return false
}
