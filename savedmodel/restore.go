package savedmodel

import (
	"slices"
	"strconv"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// A savedValue is a value in the checkpoint, or a part of one.
type savedValue struct {
	key   string
	whole Shape    // shape of the whole value, if this is a part
	slice []extent // the part in each dimension; nil for the whole value
}

type extent struct{ start, length int64 }

// restoredValues returns the checkpoint's value for each variable, by the variable's node in the
// main graph. It reads that from the restore operation, which TensorFlow's loader would run.
func restoredValues(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, budget *loadBudget) (map[string]savedValue, error) {
	saver := mg.GetSaverDef()
	if saver.GetRestoreOpName() == "" {
		return nil, notOptimized("it has no variables to restore")
	}
	g := newFlatGraph(mg, ops, budget)
	if err := g.addAction(saver.GetRestoreOpName()); err != nil {
		return nil, err
	}
	values := make(map[string]savedValue)
	for _, name := range g.order {
		n := g.nodes[name]
		if n.GetOp() != "AssignVariableOp" && n.GetOp() != "Assign" || len(n.GetInput()) < 2 {
			continue
		}
		handle := g.handle(n.GetInput()[0])
		value, ok := g.restoredValue(n.GetInput()[1], nodeOf(saver.GetFilenameTensorName()))
		_, twice := values[handle]
		if handle == "" || !ok || twice {
			return nil, notOptimized("cannot tell which value the restore operation gives to %q", n.GetInput()[0])
		}
		values[handle] = value
	}
	return values, nil
}

// addAction adds an operation of the main graph, with all that runs when it runs.
func (g *flatGraph) addAction(operation string) error {
	operation = nodeOf(operation)
	if _, err := g.control(g.main, operation); err != nil {
		return err
	}
	n := g.main.nodes[operation]
	if !isCall(n) {
		return g.addLoopEnds()
	}
	for i := range g.functions[n.GetAttr()["f"].GetFunc().GetName()].GetSignature().GetOutputArg() {
		if _, err := g.tensor(g.main, output(operation, i)); err != nil {
			return err
		}
	}
	return g.addLoopEnds()
}

// restoredValue follows a tensor back to the RestoreV2 that reads it from the checkpoint. The
// loader gives the checkpoint's name to the tensor file.
func (g *flatGraph) restoredValue(tensor, file string) (v savedValue, ok bool) {
	for range maxCallDepth {
		n := g.nodes[nodeOf(tensor)]
		if len(n.GetInput()) == 0 {
			return v, false
		}
		switch n.GetOp() {
		case "Identity":
			tensor = n.GetInput()[0]
		case "RestoreV2":
			if len(n.GetInput()) < 3 || g.source(n.GetInput()[0]) != file {
				return v, false
			}
			index := 0
			if _, number, ok := strings.Cut(tensor, ":"); ok {
				var err error
				if index, err = strconv.Atoi(number); err != nil {
					return v, false
				}
			}
			keys := g.nodes[n.GetInput()[1]].GetAttr()["value"].GetTensor().GetStringVal()
			parts := g.nodes[n.GetInput()[2]].GetAttr()["value"].GetTensor().GetStringVal()
			if index >= len(keys) || len(parts) == 0 {
				return v, false
			}
			v.key = string(keys[index])
			return v, v.setSlice(string(parts[min(index, len(parts)-1)]))
		default:
			return v, false
		}
	}
	return v, false
}

// setSlice parses RestoreV2's description of a part, such as "8 3 0,4:-": the whole shape, then the
// part's start and length in each dimension, or "-" for the whole dimension. It returns false if
// the text is malformed.
func (v *savedValue) setSlice(text string) bool {
	if text == "" {
		return true
	}
	fields := strings.Split(text, " ")
	dims, extents := fields[:len(fields)-1], strings.Split(fields[len(fields)-1], ":")
	if len(dims) != len(extents) || len(dims) > maxRank {
		return false
	}
	for i := range dims {
		size, err := strconv.ParseInt(dims[i], 10, 64)
		if err != nil {
			return false
		}
		e := extent{0, -1} // the whole dimension, as in the checkpoint's key
		if extents[i] != "-" {
			start, length, _ := strings.Cut(extents[i], ",")
			var err error
			if e.start, err = strconv.ParseInt(start, 10, 64); err != nil {
				return false
			}
			if e.length, err = strconv.ParseInt(length, 10, 64); err != nil {
				return false
			}
		}
		v.whole, v.slice = append(v.whole, size), append(v.slice, e)
	}
	return true
}

// source follows a tensor back through Identity operations.
func (g *flatGraph) source(tensor string) string {
	for range maxCallDepth {
		n := g.nodes[tensor]
		if g.fed[tensor] || n.GetOp() != "Identity" || len(n.GetInput()) == 0 {
			break
		}
		tensor = n.GetInput()[0]
	}
	return tensor
}

// startGraph returns the graph of the model's own initialization, which runs after the variables
// are restored.
func startGraph(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, budget *loadBudget) (*flatGraph, error) {
	var operations []string
	for _, info := range mg.GetSignatureDef()[initOpKey].GetOutputs() {
		operations = append(operations, info.GetName())
	}
	for _, key := range []string{"saved_model_main_op", "legacy_init_op"} {
		operations = append(operations, mg.GetCollectionDef()[key].GetNodeList().GetValue()...)
	}
	g := newFlatGraph(mg, ops, budget)
	for _, name := range operations {
		if err := g.addAction(name); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// changed returns the variables that the graph's operations may set.
func (g *flatGraph) changed() map[string]bool {
	reads := []string{"ReadVariableOp", "VarIsInitializedOp", "IsVariableInitialized", "Identity"}
	changed := make(map[string]bool)
	for _, n := range g.nodes {
		for _, in := range n.GetInput() {
			if handle := g.handle(in); handle != "" && !slices.Contains(reads, n.GetOp()) {
				changed[handle] = true
			}
		}
	}
	return changed
}
