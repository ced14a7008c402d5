package savedmodel

import (
	"slices"
	"strconv"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// A savedValue is a value in the checkpoint.
type savedValue struct {
	key string
	// A part of the value: the value's whole shape, and where the part begins
	// and how long it is in each dimension. No slice: the whole value.
	whole Shape
	slice []extent
}

type extent struct{ start, length int64 }

// restoredValues tells which value of the checkpoint each variable gets when
// TensorFlow's loader runs the graph's restore operation, by the variable's
// node in the main graph.
func restoredValues(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, work *budget) (map[string]savedValue, error) {
	saver := mg.GetSaverDef()
	if saver.GetRestoreOpName() == "" {
		return nil, refuse("it has no variables to restore")
	}
	g := newFlatGraph(mg, ops, work)
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
			return nil, refuse("it is not clear what the restore operation gives to %q", n.GetInput()[0])
		}
		values[handle] = value
	}
	return values, nil
}

// addAction adds what runs with an operation of the main graph.
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

// restoredValue follows a tensor back to the output of a RestoreV2 that reads
// the file that the loader names.
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

// setSlice reads what RestoreV2 is told about a part: the whole shape, then the
// part's extent in each dimension, "-" for all of it, such as "8 3 0,4:-". It
// is false if that makes no sense.
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
		e := extent{0, -1} // as the checkpoint's key has it, too
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

// source follows a tensor back through operations that hand it on.
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

// startGraph is what the model's own initialization runs, after the variables'
// values were restored.
func startGraph(mg *tfpb.MetaGraphDef, ops map[string]*tfpb.OpDef, work *budget) (*flatGraph, error) {
	var operations []string
	for _, info := range mg.GetSignatureDef()[initOpKey].GetOutputs() {
		operations = append(operations, info.GetName())
	}
	for _, key := range []string{"saved_model_main_op", "legacy_init_op"} {
		operations = append(operations, mg.GetCollectionDef()[key].GetNodeList().GetValue()...)
	}
	g := newFlatGraph(mg, ops, work)
	for _, name := range operations {
		if err := g.addAction(name); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// changed lists the variables that operations take which may set them.
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
