import { createHash, randomUUID } from 'node:crypto'
import {
  DockerfileError,
  type Flag,
  type Heredoc,
  type Instruction,
  jsonWords,
  parseDockerfile,
} from './parse-dockerfile.ts'
import {
  type BaseImage,
  DEFAULT_SHELL,
  follow,
  platformArguments,
  type StageScope,
  visible,
} from './stage-scope.ts'
import { expand } from './words.ts'

/**
 * Dockerfiles are written for BuildKit; Debian's buildah knows an older dialect. What it can't parse is turned into what means
 * the same to it, and what can't be is refused with its line and the reason. Lines keep their numbers within a stage; steps say
 * which line of the file they were.
 */
export interface RewriteOptions {
  /** Build arguments as given with the build. */
  readonly args: Readonly<Record<string, string>>
  /** Only builds that give the same one share results of steps. */
  readonly cacheKey: string
  /** Of a path in the build context: changes with what can be read there. */
  readonly contextDigest: (path: string) => Promise<string>
  /** `linux/amd64`. */
  readonly platform: string
  /** Asked only where a here-document depends on the image that a stage starts from. */
  readonly baseImage: (reference: string) => Promise<BaseImage>
}

export interface Rewritten {
  readonly text: string
  /** Contents of here-documents, for a build context that is called `HEREDOC_CONTEXT`. */
  readonly files: readonly HeredocFile[]
  /** Instructions in the order of the file, as buildah will print them and as the person wrote them. */
  readonly steps: readonly Step[]
  /** For a person: what was left out though it was asked for. */
  readonly notes: readonly string[]
}

export interface HeredocFile {
  /** Relative, such as `3f9a…/EOF`. */
  readonly path: string
  readonly content: string
  readonly mode: number
}

export interface Step {
  readonly line: number
  readonly rewritten: string
  readonly original: string
}

export const HEREDOC_CONTEXT = 'roost-heredocs'
/**
 * A label after each FROM. buildah takes for the result of a step whatever image has the same history, also one that somebody pushed
 * with a history of his choice, and does not look at what the mounts of a RUN held: who knows the history can leave others what he likes.
 */
const CACHE_LABEL = 'roost.cache'
/** A label before each RUN that binds something, at whose contents buildah does not look either. */
const BOUND_LABEL = 'roost.bound'
/**
 * A label that ends each stage which a RUN binds: what buildah binds is what the stage's last step left, and when it took all of them from the
 * cache it is the stage's base.
 */
const DONE_LABEL = 'roost.done'
/** A step that nobody wrote. */
export const isOwnStep = (text: string): boolean =>
  [CACHE_LABEL, BOUND_LABEL, DONE_LABEL].some((label) => text.startsWith(`LABEL ${label}=`))
/** Linux takes at most 128 KB as one argument, and scripts are handed over as one. */
const SCRIPT_BYTES_MAX = 120_000
/** Longer lines are broken up: the parser of buildah reads at most 64 KB. */
const LINE_CHARS_MAX = 30_000

export async function rewriteDockerfile(
  source: string,
  options: RewriteOptions,
): Promise<Rewritten> {
  const { escapeChar, instructions } = parseDockerfile(source)
  const stages = findStages(instructions)
  const given = new Map(Object.entries(options.args))
  const predefined = platformArguments(options.platform)
  const outer: StageScope = {
    env: new Map(),
    args: new Map(predefined),
    shell: DEFAULT_SHELL,
  }
  const scopes = new Map<Stage, StageScope>()
  const lines = new Array<string>(source.split('\n').length).fill('')
  const files = new Map<string, HeredocFile>()
  const steps: Step[] = []
  const notes: string[] = []
  if (escapeChar === '`') lines[0] = '# escape=`'

  for (const instruction of instructions) {
    const stage = stages.find((one) => one.instructions.includes(instruction))
    const fail = (message: string, code: 'invalid' | 'unsupported' = 'unsupported'): never => {
      throw new DockerfileError(instruction.line, message, code)
    }
    let scope = outer
    if (instruction.keyword === 'FROM' && stage !== undefined) {
      scope = await openStage(stage)
      scopes.set(stage, scope)
    } else if (stage !== undefined) scope = scopes.get(stage) ?? outer

    const result = rewriteInstruction(instruction, {
      escapeChar,
      scope,
      outer,
      options,
      fail,
      notes,
    })
    for (const file of result.files) files.set(file.path, file)
    const start = instruction.line - 1
    result.lines.forEach((text, n) => {
      const parts =
        breakUp(text, escapeChar) ??
        fail(`${instruction.keyword}: ${text.length} characters without a place to break the line`)
      for (const [k, part] of parts.entries()) lines[start + n + k] = part
    })
    const bound = await boundBy(instruction)
    if (bound !== null) lines[start] = `LABEL ${BOUND_LABEL}=${bound}\n${lines[start]}`
    const ended = instruction.keyword === 'FROM' && stages[stages.indexOf(stage as Stage) - 1]
    if (ended && isBound(ended, stages))
      lines[start] = `LABEL ${DONE_LABEL}=${randomUUID()}\n${lines[start]}`
    if (instruction.keyword === 'FROM') lines[start] += `\nLABEL ${CACHE_LABEL}=${options.cacheKey}`
    for (const text of result.lines)
      steps.push({ line: instruction.line, rewritten: text, original: describe(instruction) })
    try {
      follow(scope, instruction, { escapeChar, given, outer: outer.args })
    } catch (error) {
      fail(`${instruction.keyword}: ${(error as Error).message}`, 'invalid')
    }
  }
  return { text: `${lines.join('\n')}\n`, files: [...files.values()], steps, notes }

  /** A digest of what is bound, or of all that it may come from. */
  async function boundBy(instruction: Instruction): Promise<string | null> {
    const digests: string[] = []
    for (const { from, path } of bindsOf(instruction)) {
      if (from === null) digests.push(await options.contextDigest(path.includes('$') ? '/' : path))
      else if (stageCalled(from, stages) !== undefined)
        digests.push(source, JSON.stringify(options.args), await options.contextDigest('/'))
    }
    return digests.length === 0
      ? null
      : createHash('sha256').update(JSON.stringify(digests)).digest('hex')
  }

  async function openStage(stage: Stage): Promise<StageScope> {
    const name = baseName(stage)
    const parent = stages
      .slice(0, stages.indexOf(stage))
      .find((one) => one.name === name.toLowerCase())
    const known = parent === undefined ? undefined : scopes.get(parent)
    if (known !== undefined) return { env: new Map(known.env), args: new Map(), shell: known.shell }
    const base =
      name !== 'scratch' && name !== '' && dependsOnBase(stage, stages)
        ? await options.baseImage(name)
        : { env: {}, shell: null }
    return {
      env: new Map(Object.entries(base.env)),
      args: new Map(),
      shell: base.shell ?? DEFAULT_SHELL,
    }
  }

  function baseName(stage: Stage): string {
    try {
      return expand(stage.base, { escapeChar, variables: outer.args, quotes: 'strip' }).text
    } catch (error) {
      throw new DockerfileError(stage.line, `FROM ${stage.base}: ${(error as Error).message}`)
    }
  }
}

interface Stage {
  /** Lower case; empty when it has none. */
  readonly name: string
  readonly base: string
  readonly line: number
  readonly instructions: readonly Instruction[]
}

function findStages(instructions: readonly Instruction[]): Stage[] {
  const stages: (Stage & { instructions: Instruction[] })[] = []
  for (const instruction of instructions) {
    const { keyword, line, rest } = instruction
    if (keyword === 'FROM') {
      const match = /^(\S+)(?:\s+as\s+(\S+))?$/i.exec(rest)
      if (match === null)
        throw new DockerfileError(line, `FROM ${rest}: not "image" or "image AS name"`)
      stages.push({
        name: (match[2] ?? '').toLowerCase(),
        base: match[1] ?? '',
        line,
        instructions: [instruction],
      })
    } else if (stages.length > 0) stages.at(-1)?.instructions.push(instruction)
    else if (keyword !== 'ARG')
      throw new DockerfileError(line, `${keyword} before the first FROM: only ARG may stand there`)
  }
  if (stages.length === 0) throw new DockerfileError(1, 'there is no FROM')
  return stages
}

/** What a RUN is shown; `from: null` is the context. */
function bindsOf({ keyword, flags }: Instruction): { from: string | null; path: string }[] {
  if (keyword !== 'RUN') return []
  return flags.flatMap(({ name, value }) => {
    const mount = new Map(
      (value ?? '').split(',').map((part) => part.trim().split('=', 2) as [string, string]),
    )
    if (name !== 'mount' || (mount.get('type') ?? 'bind') !== 'bind') return []
    return [
      { from: mount.get('from') ?? null, path: mount.get('source') ?? mount.get('src') ?? '/' },
    ]
  })
}

function stageCalled(from: string, stages: readonly Stage[]): Stage | undefined {
  return stages.find((one, n) => one.name === from.toLowerCase() || from === `${n}`)
}

function isBound(stage: Stage, stages: readonly Stage[]): boolean {
  return stages
    .flatMap(({ instructions }) => instructions.flatMap(bindsOf))
    .some(({ from }) => from !== null && stageCalled(from, stages) === stage)
}

/** Whether variables or shell of the base image decide what a here-document of this stage (or one that starts from it) means. */
function dependsOnBase(stage: Stage, stages: readonly Stage[]): boolean {
  let shellKnown = false
  for (const { keyword, heredocs } of stage.instructions) {
    if (keyword === 'SHELL') shellKnown = true
    if (keyword === 'RUN' && heredocs.length > 0 && !shellKnown) return true
    if (keyword !== 'RUN' && heredocs.some((one) => one.expands && one.content.includes('$')))
      return true
  }
  return (
    stage.name !== '' &&
    stages
      .slice(stages.indexOf(stage) + 1)
      .some((one) => one.base.toLowerCase() === stage.name && dependsOnBase(one, stages))
  )
}

interface Context {
  readonly escapeChar: string
  readonly scope: StageScope
  readonly outer: StageScope
  readonly options: RewriteOptions
  readonly fail: (message: string, code?: 'invalid' | 'unsupported') => never
  readonly notes: string[]
}

interface Replacement {
  readonly lines: readonly string[]
  readonly files: readonly HeredocFile[]
}

function rewriteInstruction(instruction: Instruction, context: Context): Replacement {
  const { keyword, rest, heredocs } = instruction
  const flags = checkedFlags(instruction, context)
  if (keyword === 'ONBUILD') return rewriteOnbuild(instruction, context)
  if (heredocs.length === 0) return { lines: [join(keyword, flags, rest)], files: [] }
  if (keyword === 'RUN') return rewriteRun(instruction, flags, context)
  return rewriteCopy(instruction, flags, context)
}

function rewriteOnbuild(instruction: Instruction, context: Context): Replacement {
  if (instruction.heredocs.length > 0)
    context.fail('ONBUILD with a here-document: put the text into a file and COPY it')
  const inner = parseDockerfile(instruction.rest).instructions[0]
  if (inner === undefined) return context.fail('ONBUILD without an instruction', 'invalid')
  const done = rewriteInstruction(inner, context)
  return { lines: [`ONBUILD ${done.lines[0] ?? ''}`], files: done.files }
}

/** A lone here-document is the script; any other is the shell's own affair, which gets the lines as they were written. */
function rewriteRun(
  instruction: Instruction,
  flags: readonly Flag[],
  context: Context,
): Replacement {
  const { rest, heredocs } = instruction
  const [first] = heredocs
  const lone = first !== undefined && heredocs.length === 1 && rest.trim() === first.word
  if (lone && first.content.startsWith('#!')) {
    const file = heredocFile(first, chomped(first), 0o755)
    const mount = `type=bind,from=${HEREDOC_CONTEXT},source=${folderOf(file.path)},target=/dev/pipes`
    const words = JSON.stringify([`/dev/pipes/${first.name}`])
    return {
      lines: [join('RUN', [...flags, { name: 'mount', value: mount }], words)],
      files: [file],
    }
  }
  const script = lone
    ? chomped(first)
    : rest + heredocs.map(({ content, name }) => `\n${content}${name}`).join('')
  if (Buffer.byteLength(script) > SCRIPT_BYTES_MAX)
    context.fail(`RUN: a script of more than ${SCRIPT_BYTES_MAX} bytes; COPY it as a file instead`)
  return {
    lines: [join('RUN', flags, JSON.stringify([...context.scope.shell, script]))],
    files: [],
  }
}

/** Each here-document becomes a file of a context of its own, so that no .dockerignore hides it. */
function rewriteCopy(
  instruction: Instruction,
  flags: readonly Flag[],
  context: Context,
): Replacement {
  const { keyword, heredocs } = instruction
  if (flags.some((flag) => flag.name === 'from'))
    context.fail(`${keyword} --from with a here-document: these are two copies`, 'invalid')
  const words = expand(instruction.rest, {
    escapeChar: context.escapeChar,
    variables: new Map(),
    keepUnset: true,
    quotes: 'keep',
    keepEscapes: true,
  }).words
  const target = words.at(-1)
  const sources = words.slice(0, -1)
  if (target === undefined || heredocs.some((one) => one.word === target))
    return context.fail(`${keyword}: there is no destination`, 'invalid')
  if (sources.length > 1 && !unquoted(target).endsWith('/'))
    context.fail(`${keyword}: several sources need a destination that ends with /`, 'invalid')

  const plain = sources.filter((word) => !heredocs.some((one) => one.word === word))
  const files = heredocs.map((heredoc) => heredocFile(heredoc, expanded(heredoc, context), 0o644))
  const own = { name: 'from', value: HEREDOC_CONTEXT }
  const lines = [
    join('COPY', [own, ...flags], `${files.map((file) => `/${file.path}`).join(' ')} ${target}`),
  ]
  if (plain.length > 0) lines.push(join(keyword, flags, [...plain, target].join(' ')))
  return { lines, files }
}

function expanded(heredoc: Heredoc, context: Context): string {
  const content = chomped(heredoc)
  if (!heredoc.expands) return content
  try {
    return expand(content, {
      escapeChar: context.escapeChar,
      variables: visible(context.scope),
      quotes: 'plain',
    }).text
  } catch (error) {
    return context.fail(`here-document ${heredoc.word}: ${(error as Error).message}`, 'invalid')
  }
}

function chomped({ chomps, content }: Heredoc): string {
  return chomps ? content.replace(/^\t+/gm, '') : content
}

function heredocFile(heredoc: Heredoc, content: string, mode: number): HeredocFile {
  // Layers are cached by the text of an instruction, so the text must change with the content.
  const folder = createHash('sha256').update(`${mode}\n${content}`).digest('hex').slice(0, 24)
  return { path: `${folder}/${heredoc.name.replaceAll('/', '_')}`, content, mode }
}

function folderOf(path: string): string {
  return `/${path.split('/')[0]}`
}

const FLAGS: Readonly<Record<string, readonly string[]>> = {
  FROM: ['platform'],
  RUN: ['mount'],
  COPY: ['from', 'chown', 'chmod'],
  ADD: ['chown', 'chmod'],
  HEALTHCHECK: ['interval', 'timeout', 'start-period', 'retries'],
}
const KEYWORDS = new Set(
  'ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR'.split(
    ' ',
  ),
)
const REFUSED: Readonly<Record<string, string>> = {
  'COPY parents': 'copy folder by folder instead',
  'ADD parents': 'copy folder by folder instead',
  'COPY exclude': 'name the files in .dockerignore instead',
  'ADD exclude': 'name the files in .dockerignore instead',
  'ADD checksum': 'check it in a RUN step instead: sha256sum --check',
  'ADD keep-git-dir': 'clone in a RUN step instead',
  'ADD unpack': 'unpack in a RUN step instead',
  'RUN device': 'builds have no devices',
}

/** Drops what changes nothing here, refuses what this builder can't do. */
function checkedFlags(instruction: Instruction, context: Context): Flag[] {
  const { keyword, flags, rest } = instruction
  if (!KEYWORDS.has(keyword)) context.fail(`${keyword} is no instruction`, 'invalid')
  if (rest === '') context.fail(`${keyword} needs at least one argument`, 'invalid')
  if (keyword === 'ADD' && /(^|\s|")(git@|git:\/\/|https?:\/\/\S+\.git(#|\s|$|"))/.test(rest))
    context.fail('ADD of a git repository: clone in a RUN step instead')
  return flags.flatMap((flag): Flag[] => {
    const { name, value } = flag
    const shown = `${keyword} --${name}${value === null ? '' : `=${value}`}`
    if (name === 'link' && (keyword === 'COPY' || keyword === 'ADD')) {
      if (value !== null && value !== 'true' && value !== 'false')
        context.fail(`${shown}: true or false`, 'invalid')
      // It only says how layers are stored, not what is in them.
      return []
    }
    if (keyword === 'HEALTHCHECK' && name === 'start-interval') {
      context.notes.push(`Dockerfile line ${instruction.line}: ${shown} is left out`)
      return []
    }
    if (keyword === 'FROM' && name === 'platform') return platformFlag(value ?? '', shown, context)
    if (keyword === 'RUN' && name === 'network') {
      if (value === 'default') return []
      context.fail(`${shown}: steps of a build share one network here; leave the flag out`)
    }
    if (keyword === 'RUN' && name === 'security') {
      if (value === 'sandbox') return []
      context.fail(`${shown}: builds have no extra privileges`)
    }
    const reason = REFUSED[`${keyword} ${name}`]
    if (reason !== undefined) context.fail(`${shown} is not supported: ${reason}`)
    if (!(FLAGS[keyword] ?? []).includes(name)) context.fail(`${shown}: unknown flag`, 'invalid')
    if (value === null) context.fail(`${shown} needs a value`, 'invalid')
    return keyword === 'RUN' && name === 'mount'
      ? [{ name, value: mountFlag(value ?? '', shown, context) }]
      : [flag]
  })
}

/** Only this machine's own architecture is built for. */
function platformFlag(value: string, shown: string, context: Context): Flag[] {
  const { platform } = context.options
  const asked = expand(value, {
    escapeChar: context.escapeChar,
    variables: context.outer.args,
    quotes: 'strip',
  }).text
  const same = new Set(['', platform, platform.split('/')[0], platform.split('/')[1]])
  if (platform === 'linux/arm64') same.add('linux/arm64/v8')
  if (!same.has(asked)) context.fail(`${shown}: this builder builds for ${platform} only`)
  return []
}

const MOUNT_KEYS: Readonly<Record<string, readonly string[]>> = {
  bind: ['from', 'source', 'src', 'target', 'dst', 'destination', 'readonly', 'ro'],
  cache: [
    'id',
    'from',
    'source',
    'src',
    'target',
    'dst',
    'destination',
    'sharing',
    'mode',
    'uid',
    'gid',
    'readonly',
    'ro',
    'rw',
    'readwrite',
  ],
  tmpfs: ['target', 'dst', 'destination', 'size'],
  secret: ['id', 'target', 'dst', 'destination', 'required', 'mode', 'uid', 'gid'],
  ssh: ['id', 'target', 'dst', 'destination', 'required', 'mode', 'uid', 'gid'],
}

function mountFlag(value: string, shown: string, context: Context): string {
  const parts = value.split(',').map((part) => part.trim())
  const type = parts.find((part) => part.startsWith('type='))?.slice('type='.length) ?? 'bind'
  const known = MOUNT_KEYS[type]
  if (known === undefined) return context.fail(`${shown}: unknown type of mount`, 'invalid')
  const kept = parts.flatMap((part) => {
    const [key = '', setting] = part.split('=', 2)
    if (key === 'type') return []
    if (type === 'secret' && key === 'env')
      context.fail(`${shown}: read the secret from its file instead (/run/secrets/<id>)`)
    if (type === 'bind' && (key === 'rw' || key === 'readwrite')) {
      if (setting === 'false') return []
      // Elsewhere such writes are thrown away; here they would reach the context, and later steps through it the host.
      context.fail(`${shown}: bind mounts are read-only here; copy what the step changes`)
    }
    if (!known.includes(key)) context.fail(`${shown}: unknown setting ${key}`, 'invalid')
    return [part]
  })
  return [`type=${type}`, ...kept].join(',')
}

function join(keyword: string, flags: readonly Flag[], rest: string): string {
  const shown = flags.map(({ name, value }) => {
    const word = value === null ? `--${name}` : `--${name}=${value}`
    return /\s/.test(word) ? `--${name}=${JSON.stringify(value)}` : word
  })
  return [keyword, ...shown, rest].filter((part) => part !== '').join(' ')
}

function unquoted(word: string): string {
  return jsonWords(`[${word}]`)?.[0] ?? word
}

/** The instruction as a person recognises it, in one line. */
function describe({ keyword, flags, rest, heredocs }: Instruction): string {
  const first = heredocs[0]?.content.split('\n').find((line) => line.trim() !== '')
  const more = first === undefined ? '' : ` (${first.trim()}…)`
  const text = join(keyword, flags, rest).replace(/\s+/g, ' ')
  return `${text.length > 200 ? `${text.slice(0, 200)}…` : text}${more.slice(0, 80)}`
}

/**
 * Continues a long line on further ones; none may start like a comment or end in what would be taken away. Null: there is no
 * such place.
 */
function breakUp(text: string, escapeChar: string): string[] | null {
  const parts: string[] = []
  let rest = text
  while (rest.length > LINE_CHARS_MAX) {
    const cut = [...Array(LINE_CHARS_MAX / 2).keys()]
      .map((back) => LINE_CHARS_MAX - back)
      .find((at) => !/[\s\\`]/.test(rest[at - 1] ?? '') && !/[\s#\\`]/.test(rest[at] ?? ''))
    if (cut === undefined) return null
    parts.push(rest.slice(0, cut) + escapeChar)
    rest = rest.slice(cut)
  }
  return [...parts, rest]
}
