import { Command, type CommanderError } from 'commander'
import type { CliContext } from './cli-context.ts'
import { printJson } from './command-options.ts'
import { COMMANDS, type CommandEntry, NOUNS } from './command-table.ts'
import { nearest } from './config/reader.ts'
import { type Explanation, explain } from './failure/explain.ts'
import { type Ended, type ExitCode, usage } from './failure/failure.ts'
import { styleOf } from './terminal/style.ts'

const ENTRIES = COMMANDS.flatMap(({ commands }) => commands)

/** Runs one command line to its end and returns the exit code. Whatever goes wrong is told on stderr. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  try {
    const said = contextOption(argv)
    const args = globalsLast(said.argv)
    const program = await programFor(
      args,
      said.context === null ? context : within(context, said.context),
    )
    await program.parseAsync([...args], { from: 'user' })
    return 0
  } catch (error) {
    // Commander has already said what is wrong with the command line, or helped. Commands that come from sources
    // beside the bundle have a class of their own.
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (code.startsWith('commander.')) {
      const { exitCode, message } = error as CommanderError
      if (exitCode === 0) return 0
      const what = message.replace(/^error: /, '').split('\n')[0] ?? ''
      const words = { what, why: null, fixes: [], exitCode: 2, code: 'usage' } as const
      if (wantsJson(argv)) tellScript(words, context)
      return 2
    }
    if (error instanceof Error && error.name === 'Ended') return (error as Ended).exitCode
    const words = explain(error)
    if (wantsJson(argv)) tellScript(words, context)
    return tell(words, context)
  }
}

/** Looked for before the command line is understood: it may be just that which is wrong. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  return (end < 0 ? argv : argv.slice(0, end)).includes('--json')
}

/** With `--json` standard output always has JSON: the answer, or this. */
function tellScript(words: Explanation, context: CliContext): void {
  const { what, why, fixes, exitCode, code, requestId = null } = words
  const error = { code, message: what, why, fixes, exit_code: exitCode, request_id: requestId }
  printJson(context, { error })
}

function tell({ what, why, fixes, exitCode }: Explanation, context: CliContext): ExitCode {
  const style = styleOf(context, context.stderr)
  const indent = (text: string) => text.replaceAll('\n', '\n  ')
  const lines = [
    `${exitCode === 130 ? style.yellow('Stopped:') : style.red('Error:')} ${indent(what)}`,
    ...(why === null ? [] : [`  ${indent(why)}`]),
    ...fixes.map((fix, n) => `${n === 0 ? '  Try:' : '      '} ${style.bold(fix)}`),
  ]
  context.stderr.write(`${lines.join('\n')}\n`)
  return exitCode
}

/** A program that knows the command that was called, or all of a noun when its verb is missing or wrong. */
async function programFor(args: readonly string[], context: CliContext): Promise<Command> {
  const [first = '', second = ''] = args
  const named = ENTRIES.filter(({ words }) => words[0] === first)
  if (named.length === 0) throw unknownCommand(first)
  const program = new Command('roost')
  program
    .exitOverride()
    .showHelpAfterError(false)
    .helpCommand(false)
    .helpOption('-h, --help', 'this help')
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      getOutHelpWidth: () => context.stdout.columns ?? 100,
      getErrHelpWidth: () => context.stderr.columns ?? 100,
      outputError: (text, write) => {
        const style = styleOf(context, context.stderr)
        const [what = '', ...more] = text
          .trim()
          .replace(/^error: /, '')
          .split('\n')
        write(`${style.red('Error:')} ${what}\n${more.map((line) => `  ${line}\n`).join('')}`)
        write(
          `  Try: ${style.bold(`roost ${named[0]?.words[1] === undefined ? first : `${first} ${second}`.trim()} --help`)}\n`,
        )
      },
    })
  const about = NOUNS[first]
  if (about === undefined) {
    for (const entry of named) (await entry.load()).register(program, context)
    return program
  }
  const noun = program.command(first).description(about)
  const called = named.filter(({ words }) => words[1] === second)
  if (called.length === 0 && second !== '' && !second.startsWith('-'))
    throw unknownVerb(first, second, named)
  for (const entry of called.length === 0 ? named : called)
    (await entry.load()).register(noun, context)
  if (called.length === 0) noun.action(() => noun.outputHelp())
  return program
}

function unknownCommand(word: string) {
  const words = [...new Set(ENTRIES.map((entry) => entry.words[0]))]
  const meant = PEERS_WORDS[word] ?? nearest(word, words, (one) => one)
  return usage(`there is no command "${word}"`, [
    ...(meant === null ? [] : [`roost ${meant}`]),
    'roost --help',
  ])
}

function unknownVerb(noun: string, verb: string, entries: readonly CommandEntry[]) {
  const verbs = entries.map(({ words }) => words[1] ?? '')
  const known = (SYNONYMS[verb] ?? []).find((one) => verbs.includes(one))
  const meant = known ?? nearest(verb, verbs, (one) => one)
  return usage(`there is no command "${noun} ${verb}"`, [
    ...(meant === null ? [] : [`roost ${noun} ${meant}`]),
    `roost ${noun} --help`,
  ])
}

/** Words that people know from elsewhere. */
const SYNONYMS: Readonly<Record<string, readonly string[]>> = {
  ls: ['list'],
  rm: ['destroy', 'unset', 'remove', 'revoke'],
  remove: ['destroy', 'unset', 'revoke'],
  delete: ['destroy', 'unset', 'remove', 'revoke'],
  switch: ['use'],
  new: ['create'],
  add: ['set', 'create'],
  show: ['status', 'list'],
  kill: ['stop'],
}
const PEERS_WORDS: Readonly<Record<string, string>> = {
  app: 'apps list',
  machines: 'machine list',
  m: 'machine list',
  ps: 'status',
  secret: 'secrets list',
  login: 'auth login',
  logout: 'auth logout',
  whoami: 'auth whoami',
  destroy: 'apps destroy',
  init: 'launch',
  release: 'releases',
  history: 'releases',
  undo: 'rollback',
  region: 'regions',
  host: 'hosts',
  token: 'tokens list',
  exec: 'machine exec',
  run: 'machine run',
  man: 'manual',
  contexts: 'context list',
  ctx: 'context list',
  log: 'logs',
  dev: 'playground up',
}

/** `--context NAME`, wherever it stands before `--`: it is the same for every command, so none need know of it. */
function contextOption(argv: readonly string[]): { argv: string[]; context: string | null } {
  const end = argv.indexOf('--')
  const own = end < 0 ? argv : argv.slice(0, end)
  const at = own.findIndex((word) => word === '--context' || word.startsWith('--context='))
  if (at < 0) return { argv: [...argv], context: null }
  const word = own[at] ?? ''
  const apart = word === '--context'
  const name = apart ? own[at + 1] : word.slice('--context='.length)
  if (!name) throw usage('--context needs a name', 'roost context list')
  return { argv: [...argv.slice(0, at), ...argv.slice(at + (apart ? 2 : 1))], context: name }
}

/** What is typed goes before the environment. */
function within(context: CliContext, name: string): CliContext {
  const none = { ROOST_API_URL: undefined, ROOST_API_TOKEN: undefined, ROOST_API_CA: undefined }
  return { ...context, env: { ...context.env, ...none, ROOST_CONTEXT: name } }
}

/** `roost -a shop status` is `roost status -a shop`. */
function globalsLast(argv: readonly string[]): string[] {
  const moved: string[] = []
  let n = 0
  while (n < argv.length && argv[n]?.startsWith('-')) {
    const option = argv[n] ?? ''
    const takesValue = ['-a', '--app', '-c', '--config'].includes(option)
    moved.push(...argv.slice(n, n + (takesValue ? 2 : 1)))
    n += takesValue ? 2 : 1
  }
  return [...argv.slice(n), ...moved]
}
