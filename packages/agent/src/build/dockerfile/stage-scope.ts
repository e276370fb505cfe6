import { type Instruction, jsonWords } from './parse-dockerfile.ts'
import { expand } from './words.ts'

/** What a base image brings along that the rewriting of here-documents must know. */
export interface BaseImage {
  readonly env: Readonly<Record<string, string>>
  /** SHELL of the image; null: /bin/sh -c. */
  readonly shell: readonly string[] | null
}

/** Variables and shell at one place of a Dockerfile. */
export interface StageScope {
  readonly env: Map<string, string>
  readonly args: Map<string, string>
  shell: readonly string[]
}

export const DEFAULT_SHELL = ['/bin/sh', '-c']

export function platformArguments(platform: string): Map<string, string> {
  const [os = 'linux', architecture = 'amd64'] = platform.split('/')
  const values = new Map<string, string>()
  for (const side of ['TARGET', 'BUILD']) {
    values.set(`${side}PLATFORM`, platform)
    values.set(`${side}OS`, os)
    values.set(`${side}ARCH`, architecture)
    values.set(`${side}VARIANT`, '')
  }
  return values
}

/** ENV goes before ARG, as in a build. */
export function visible(scope: StageScope): Map<string, string> {
  return new Map([...scope.args, ...scope.env])
}

/** Follows what ARG, ENV and SHELL change. `given` are the build's own arguments, `outer` what stood before the first FROM. */
export function follow(
  scope: StageScope,
  instruction: Instruction,
  context: {
    readonly escapeChar: string
    readonly given: ReadonlyMap<string, string>
    readonly outer: ReadonlyMap<string, string>
  },
): void {
  const options = {
    escapeChar: context.escapeChar,
    variables: visible(scope),
    quotes: 'strip',
  } as const
  if (instruction.keyword === 'SHELL') {
    scope.shell = jsonWords(instruction.rest) ?? scope.shell
  } else if (instruction.keyword === 'ARG') {
    for (const [name, fallback] of assignments(instruction.rest, context.escapeChar)) {
      const value =
        context.given.get(name) ??
        (fallback === null ? context.outer.get(name) : expand(fallback, options).text)
      if (value !== undefined) scope.args.set(name, value)
    }
  } else if (instruction.keyword === 'ENV') {
    const legacy = /^([^\s=]+)\s+(.*)$/s.exec(instruction.rest)
    const pairs: readonly (readonly [string, string | null])[] =
      legacy === null
        ? assignments(instruction.rest, context.escapeChar)
        : [[legacy[1] ?? '', legacy[2] ?? '']]
    // All of one instruction see the values from before it.
    for (const [name, value] of pairs) scope.env.set(name, expand(value ?? '', options).text)
  }
}

/** `A=1 B="x y" C` with quotes and variables still in the values. */
function assignments(rest: string, escapeChar: string): [string, string | null][] {
  const { words } = expand(rest, {
    escapeChar,
    variables: new Map(),
    keepUnset: true,
    quotes: 'keep',
    keepEscapes: true,
  })
  return words.map((word) => {
    const at = word.indexOf('=')
    return at < 0 ? [word, null] : [word.slice(0, at), word.slice(at + 1)]
  })
}
