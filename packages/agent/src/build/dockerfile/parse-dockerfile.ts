import { expand } from './words.ts'

/**
 * Reads a Dockerfile into instructions as BuildKit does, here-documents included. A library was tried first
 * (dockerfile-ast): it takes `<<` inside of quotes for the start of a here-document and swallows the rest of the file.
 */
export interface Instruction {
  /** Upper case. */
  readonly keyword: string
  readonly flags: readonly Flag[]
  /** What follows keyword and flags, continued lines joined, comments gone. */
  readonly rest: string
  /** 1-based, of the line with the keyword. */
  readonly line: number
  /** How many lines of the file it takes, here-documents included. */
  readonly lineCount: number
  readonly heredocs: readonly Heredoc[]
}

export interface Flag {
  /** Without dashes. */
  readonly name: string
  /** null for `--link` without a value. */
  readonly value: string | null
}

export interface Heredoc {
  readonly name: string
  /** Whether variables in it are replaced: no part of its name was quoted. */
  readonly expands: boolean
  /** `<<-`: leading tabs go. */
  readonly chomps: boolean
  /** As written, last newline included. */
  readonly content: string
  /** The word that announced it: `<<-"EOF"`. */
  readonly word: string
}

export interface ParsedDockerfile {
  readonly escapeChar: string
  readonly instructions: readonly Instruction[]
}

/** What is wrong with a Dockerfile, and where. */
export class DockerfileError extends Error {
  readonly line: number
  readonly code: 'invalid' | 'unsupported'
  constructor(line: number, message: string, code: 'invalid' | 'unsupported' = 'invalid') {
    super(`Dockerfile line ${line}: ${message}`)
    this.name = 'DockerfileError'
    this.line = line
    this.code = code
  }
}

const CONTAINS_HEREDOC = new Set(['ADD', 'COPY', 'RUN'])

export function parseDockerfile(source: string): ParsedDockerfile {
  const lines = source.replace(/^\uFEFF/, '').split(/\r?\n/)
  const escapeChar = escapeOf(lines)
  const continued = escapeChar === '`' ? /(?:[^`]|^)`[ \t]*$/ : /(?:[^\\]|^)\\[ \t]*$/
  const instructions: Instruction[] = []
  let at = 0
  while (at < lines.length) {
    const first = (lines[at] ?? '').trimStart()
    if (first === '' || first.startsWith('#')) {
      at++
      continue
    }
    const startAt = at
    let text = first
    at++
    let open = false
    const join = () => {
      open = continued.test(text)
      if (open) text = text.replace(/\S[ \t]*$/, '')
    }
    join()
    while (open) {
      const next = lines[at]
      if (next === undefined) break
      at++
      if (/^\s*(#|$)/.test(next)) continue
      text += next
      join()
    }
    const { keyword, flags, rest } = splitInstruction(text.trimEnd(), startAt + 1, escapeChar)
    const heredocs: Heredoc[] = []
    const holder = keyword === 'ONBUILD' ? (/^\S+/.exec(rest)?.[0]?.toUpperCase() ?? '') : keyword
    if (CONTAINS_HEREDOC.has(holder) && !isJson(rest)) {
      for (const announced of announcedHeredocs(text)) {
        let content = ''
        for (;;) {
          const line = lines[at]
          if (line === undefined || (at === lines.length - 1 && line === ''))
            throw new DockerfileError(
              startAt + 1,
              `${keyword}: the here-document ${announced.word} has no end: a line with only ${announced.name}`,
            )
          at++
          if ((announced.chomps ? line.replace(/^\t+/, '') : line) === announced.name) break
          content += `${line}\n`
        }
        heredocs.push({ ...announced, content })
      }
    }
    instructions.push({
      keyword,
      flags,
      rest,
      line: startAt + 1,
      lineCount: at - startAt,
      heredocs,
    })
  }
  return { escapeChar, instructions }
}

/** `["a", "b"]`; null when it is anything else. */
export function jsonWords(rest: string): readonly string[] | null {
  if (!rest.trimStart().startsWith('[')) return null
  try {
    const value: unknown = JSON.parse(rest)
    if (!Array.isArray(value) || value.some((word) => typeof word !== 'string')) return null
    return value as string[]
  } catch {
    return null
  }
}

function isJson(rest: string): boolean {
  return jsonWords(rest) !== null
}

/** `# escape=` counts only above everything else but other directives. */
function escapeOf(lines: readonly string[]): string {
  for (const line of lines) {
    const directive = /^\s*#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$/.exec(line)
    if (directive === null) return '\\'
    if (directive[1]?.toLowerCase() !== 'escape') continue
    if (directive[2] !== '\\' && directive[2] !== '`')
      throw new DockerfileError(1, `escape=${directive[2]}: only \\ and \` are possible`)
    return directive[2]
  }
  return '\\'
}

function splitInstruction(text: string, line: number, escapeChar: string) {
  const keyword = (/^\S+/.exec(text)?.[0] ?? '').toUpperCase()
  let rest = text.slice(keyword.length).trimStart()
  const flags: Flag[] = []
  while (rest.startsWith('--')) {
    const word = firstWord(rest, escapeChar)
    rest = rest.slice(word.length).trimStart()
    if (word === '--') break
    const match = /^--([^=]*)(?:=(.*))?$/s.exec(word)
    if (match === null || match[1] === '')
      throw new DockerfileError(line, `${keyword} ${word}: not a flag`)
    flags.push({ name: match[1] ?? '', value: match[2] === undefined ? null : unquote(match[2]) })
  }
  return { keyword, flags, rest }
}

function firstWord(text: string, escapeChar: string): string {
  let quote = ''
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? ''
    if (char === escapeChar && quote !== "'") at++
    else if (quote !== '') quote = char === quote ? '' : quote
    else if (char === '"' || char === "'") quote = char
    else if (/\s/.test(char)) return text.slice(0, at)
  }
  return text
}

function unquote(value: string): string {
  return /^(["']).*\1$/s.test(value) ? value.slice(1, -1) : value
}

/** Only whole words outside of quotes announce one; what can't be split into words announces none. */
function announcedHeredocs(text: string): Omit<Heredoc, 'content'>[] {
  const raw = { escapeChar: '\\', variables: new Map(), keepUnset: true }
  try {
    const { words } = expand(text, { ...raw, quotes: 'keep', keepEscapes: true })
    return words.flatMap((word) => {
      const match = /^\d*<<(-?)([^<]+)$/.exec(word)
      if (match === null) return []
      const bare = expand(match[2] ?? '', { ...raw, quotes: 'strip' }).words
      const quoted = expand(match[2] ?? '', { ...raw, quotes: 'keep', keepEscapes: true }).words
      if (bare.length !== 1 || bare[0] === undefined) return []
      return [{ name: bare[0], expands: bare[0] === quoted[0], chomps: match[1] === '-', word }]
    })
  } catch {
    return []
  }
}
