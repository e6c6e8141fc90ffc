"""The diagram of a cell: netlist, placement, routing, coordinates, and the SVG of it all."""
