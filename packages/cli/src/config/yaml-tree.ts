import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import {
  newTable,
  type Place,
  type TomlNode,
  type TomlProblem,
  type TomlTable,
} from './toml-tree.ts'

/** Nested lists that mean themselves, or a few lines that unfold to millions. */
const NODES_MAX = 20_000
const DEPTH_MAX = 100

/**
 * YAML as the same tree as TOML, so that the same readers read it and each complaint has its line. Keys without a value are as
 * if they were not there; anchors are followed, `<<` merges.
 */
export function yamlTree(text: string): { table: TomlTable } | { problem: TomlProblem } {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { line, column: col }
  }
  const [error] = document.errors
  if (error !== undefined) return { problem: { at: place(error.pos[0]), message: error.message } }
  let count = 0

  const tree = (node: Node | null, fallback: Place, depth: number): TomlNode | null => {
    if (++count > NODES_MAX || depth > DEPTH_MAX) throw new TooLarge(fallback)
    const at = node?.range ? place(node.range[0]) : fallback
    if (isAlias(node)) return tree(node.resolve(document) ?? null, at, depth + 1)
    if (isSeq(node))
      return {
        kind: 'array',
        at,
        items: node.items.flatMap((one) => tree(one as Node, at, depth + 1) ?? []),
      }
    if (isMap(node)) {
      const table = newTable(at)
      for (const pair of node.items) {
        const key = pair.key as Node | null
        const keyAt = key?.range ? place(key.range[0]) : at
        const name = isScalar(key) ? String(key.value) : ''
        const value = tree(pair.value as Node | null, keyAt, depth + 1)
        if (value === null) continue
        if (name === '<<' && value.kind === 'table')
          for (const [inner, entry] of value.entries) {
            if (!table.entries.has(inner)) table.entries.set(inner, entry)
          }
        else table.entries.set(name, { name, at: keyAt, value })
      }
      return table
    }
    const value = isScalar(node) ? node.value : null
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
      return { kind: 'value', at, value }
    return value === null || value === undefined
      ? null
      : { kind: 'value', at, value: String(value) }
  }
  const top = { line: 1, column: 1 }
  try {
    const root = tree(document.contents as Node | null, top, 0)
    if (root?.kind === 'table') return { table: root }
    return { problem: { at: top, message: 'it is not a table of keys' } }
  } catch (cause) {
    if (!(cause instanceof TooLarge)) throw cause
    return {
      problem: {
        at: cause.at,
        message: `it is nested more than ${DEPTH_MAX} deep, or has more than ${NODES_MAX} values`,
      },
    }
  }
}

class TooLarge extends Error {
  readonly at: Place
  constructor(at: Place) {
    super('too large')
    this.at = at
  }
}
