package convert

import "unsafe"

// PieceSize is how many bytes of memory a dictionary needs for each piece.
const PieceSize = unsafe.Sizeof(piece{})
