import { type AST, ParseError, parseTOML } from 'toml-eslint-parser'

/** Both count from 1, as editors do. */
export interface Place {
  readonly line: number
  readonly column: number
}

/** TOML with the place of each key and value, so that every complaint can say where. */
export type TomlNode = TomlTable | TomlArray | TomlValue
export interface TomlTable {
  readonly kind: 'table'
  readonly at: Place
  readonly entries: Map<string, TomlEntry>
}
export interface TomlArray {
  readonly kind: 'array'
  readonly at: Place
  readonly items: TomlNode[]
}
export interface TomlValue {
  readonly kind: 'value'
  readonly at: Place
  readonly value: string | number | boolean | Date
}
export interface TomlEntry {
  readonly name: string
  /** Where the key stands. */
  readonly at: Place
  readonly value: TomlNode
}

/** What is wrong with the text, and where. */
export interface TomlProblem {
  readonly at: Place
  readonly message: string
}

export function tomlTree(text: string): { table: TomlTable } | { problem: TomlProblem } {
  try {
    const [top] = parseTOML(text, { tomlVersion: '1.0' }).body
    const root = newTable({ line: 1, column: 1 })
    for (const part of top.body) {
      if (part.type === 'TOMLKeyValue') addKeyValue(root, part)
      else addTable(root, part)
    }
    return { table: root }
  } catch (error) {
    if (!(error instanceof ParseError)) throw error
    const at = placeOfError(text, error)
    const header = openHeader(text, at.line)
    if (header !== null)
      return { problem: { at: header, message: 'the name of a section ends with ]' } }
    const message = error.message.replace(/\.$/, '')
    return { problem: { at, message: PLAIN_WORDS[message] ?? message } }
  }
}

/** What the parser says in the words of its own grammar. */
const PLAIN_WORDS: Readonly<Record<string, string>> = {
  'Unspecified values are invalid': 'a value is missing',
  'Defining a key multiple times is invalid': 'this key is there twice',
}

/** `[http_service` is noticed only on the line after it; null when it is not that. */
function openHeader(text: string, line: number): Place | null {
  const lines = text.split('\n').slice(0, line)
  for (const n of [line - 1, line - 2]) {
    const header = /^\s*\[\[?\s*[\w."'-]+(?=\s*(?:#.*)?$)/.exec(lines[n]?.trimEnd() ?? '')
    if (header !== null) return { line: n + 1, column: header[0].length + 1 }
  }
  return null
}

/** The parser notices a missing value only on the next line; a person looks for it where the line ends with `=`. */
function placeOfError(text: string, error: ParseError): Place {
  const before = text.slice(0, error.index).trimEnd()
  if (error.column > 0 || !before.endsWith('='))
    return { line: error.lineNumber, column: error.column + 1 }
  const lines = before.split('\n')
  return { line: lines.length, column: (lines.at(-1) ?? '').length + 1 }
}

/** The values without their places. */
export function plainValue(node: TomlNode): unknown {
  if (node.kind === 'value') return node.value
  if (node.kind === 'array') return node.items.map(plainValue)
  return Object.fromEntries([...node.entries].map(([key, entry]) => [key, plainValue(entry.value)]))
}

export function newTable(at: Place): TomlTable {
  return { kind: 'table', at, entries: new Map() }
}

function addTable(root: TomlTable, part: AST.TOMLTable): void {
  const places = part.key.keys.map(placeOf)
  let at: TomlNode = root
  let depth = 0
  for (const [n, step] of part.resolvedKey.entries()) {
    if (typeof step === 'string') {
      const isArray = typeof part.resolvedKey[n + 1] === 'number'
      at = childOf(at, step, places[depth] ?? placeOf(part), isArray)
      depth += 1
    } else if (at.kind === 'array') {
      at.items[step] ??= newTable(placeOf(part))
      at = at.items[step]
    }
  }
  if (at.kind === 'table') for (const pair of part.body) addKeyValue(at, pair)
}

function childOf(parent: TomlNode, name: string, at: Place, isArray: boolean): TomlNode {
  if (parent.kind !== 'table') return parent
  const there = parent.entries.get(name)
  if (there !== undefined) return there.value
  const value: TomlNode = isArray ? { kind: 'array', at, items: [] } : newTable(at)
  parent.entries.set(name, { name, at, value })
  return value
}

function addKeyValue(table: TomlTable, pair: AST.TOMLKeyValue): void {
  const names = pair.key.keys
  let at: TomlNode = table
  for (const name of names.slice(0, -1)) at = childOf(at, nameOf(name), placeOf(name), false)
  const last = names.at(-1)
  if (last === undefined || at.kind !== 'table') return
  at.entries.set(nameOf(last), {
    name: nameOf(last),
    at: placeOf(last),
    value: contentOf(pair.value),
  })
}

function contentOf(node: AST.TOMLContentNode): TomlNode {
  const at = placeOf(node)
  if (node.type === 'TOMLArray') return { kind: 'array', at, items: node.elements.map(contentOf) }
  if (node.type === 'TOMLInlineTable') {
    const table = newTable(at)
    for (const pair of node.body) addKeyValue(table, pair)
    return table
  }
  return { kind: 'value', at, value: node.value }
}

function nameOf(key: AST.TOMLBare | AST.TOMLQuoted): string {
  return key.type === 'TOMLBare' ? key.name : key.value
}

function placeOf(node: AST.HasLocs): Place {
  return { line: node.loc.start.line, column: node.loc.start.column + 1 }
}
