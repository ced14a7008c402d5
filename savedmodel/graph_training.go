package savedmodel

import (
	"slices"
	"strings"
)

// TrainingOps lists the kinds of operation, sorted, that a signature runs as only training should:
// those that draw random numbers for its outputs, that change variables, or that normalize by the
// batch at hand. Answers of such a model differ from run to run, or with their neighbours in the
// batch. It looks at functions that are called for certain, so at none of TensorFlow 1, where
// a switch may turn training off.
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
		for _, n := range b.order { // which run for their effect
			if changesVariable(n.op) {
				found = insertSorted(found, n.op)
			}
		}
	}
	return slices.Clip(found)
}

// drawsRandom are operations that give other numbers each time.
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

// normalizesByBatch tells whether a batch normalization takes the mean of the batch. That is the
// default, which writers leave out.
func normalizesByBatch(n *graphNode) bool {
	switch n.op {
	case "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3":
		training := n.attr["is_training"]
		return training == nil || training.GetB()
	}
	return false
}
