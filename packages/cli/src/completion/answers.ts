import { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { COMMANDS, type CommandEntry, NOUNS } from '../command-table.ts'
import { GUEST_SIZES } from '../config/guest.ts'
import { appNameFor } from '../session/app-session.ts'
import { connect } from '../session/connect.ts'
import { readContexts } from '../session/contexts.ts'

/** A word that fits, and what it is. */
export interface Suggestion {
  readonly word: string
  readonly about: string
}

const ENTRIES = COMMANDS.flatMap(({ commands }) => commands)
/** Whoever presses Tab does not wait for a server that is far away. */
export const SERVER_MS_MAX = 1_000
const SHOWN_MAX = 200

/**
 * What may stand where the cursor is. `words`: those after `roost`, the last one as far as it is typed. Says nothing rather
 * than something wrong, and never fails: a shell would print that between the words of its user.
 */
export async function suggestionsFor(
  words: readonly string[],
  terminal: CliContext,
  serverMs: number = SERVER_MS_MAX,
): Promise<readonly Suggestion[]> {
  const typed = words.at(-1) ?? ''
  try {
    const found = await candidates(words, { terminal, serverMs })
    return found.filter(({ word }) => word.startsWith(typed)).slice(0, SHOWN_MAX)
  } catch {
    return []
  }
}

interface Asking {
  readonly terminal: CliContext
  readonly serverMs: number
}

async function candidates(
  words: readonly string[],
  asking: Asking,
): Promise<readonly Suggestion[]> {
  const [first = '', second = ''] = words
  if (words.length <= 1) return nouns()
  const named = ENTRIES.filter((entry) => entry.words[0] === first)
  const hasVerbs = NOUNS[first] !== undefined
  if (words.length === 2 && hasVerbs)
    return named.map(({ words: [, verb = ''], summary }) => ({ word: verb, about: summary }))
  const entry = named.find(({ words: [, verb] }) => !hasVerbs || verb === second)
  if (entry === undefined) return []
  const command = await commandOf(entry, asking)
  const given = words.slice(hasVerbs ? 2 : 1)
  const before = given.at(-2) ?? ''
  const typed = given.at(-1) ?? ''
  const flag = command.options.find((one) => one.short === before || one.long === before)
  if (flag !== undefined && (flag.required || flag.optional))
    return valuesOf(flag.long ?? '', given, asking)
  if (before === '--context') return valuesOf('--context', given, asking)
  if (typed.startsWith('-')) return flagsOf(command)
  const argument = command.registeredArguments[0]?.name() ?? ''
  return argumentsOf(entry, argument, given, asking)
}

function nouns(): Suggestion[] {
  const seen = new Map<string, string>()
  for (const { words, summary } of ENTRIES)
    seen.set(words[0], words[1] === undefined ? summary : (NOUNS[words[0]] ?? summary))
  return [...seen].map(([word, about]) => ({ word, about }))
}

async function commandOf(entry: CommandEntry, asking: Asking): Promise<Command> {
  const parent = new Command()
  ;(await entry.load()).register(parent, asking.terminal)
  const [command] = parent.commands
  if (command === undefined) throw new Error('no command')
  return command
}

function flagsOf(command: Command): Suggestion[] {
  return [
    ...command.options.map((one) => ({
      word: one.long ?? one.short ?? '',
      about: one.description,
    })),
    { word: '--context', about: 'the server to use' },
    { word: '--help', about: 'this help' },
  ]
}

/** Of flags that take a word. */
async function valuesOf(
  flag: string,
  given: readonly string[],
  asking: Asking,
): Promise<readonly Suggestion[]> {
  switch (flag) {
    case '--app':
      return apps(asking)
    case '--region':
    case '--regions':
      return regions(asking)
    case '--context':
      return contexts(asking)
    case '--vm-size':
      return GUEST_SIZES.map((word) => ({ word, about: '' }))
    case '--process-group':
      return groups(given, asking)
    default:
      return []
  }
}

async function argumentsOf(
  entry: CommandEntry,
  argument: string,
  given: readonly string[],
  asking: Asking,
): Promise<readonly Suggestion[]> {
  const [noun, verb] = entry.words
  if (noun === 'apps' && argument === 'name' && verb === 'destroy') return apps(asking)
  if (noun === 'machine' && argument === 'id') return machines(given, asking)
  if (noun === 'context' || (noun === 'auth' && verb === 'logout')) return contexts(asking)
  if (noun === 'tokens' && verb === 'create')
    return ['deploy', 'readonly', 'admin'].map((word) => ({ word, about: '' }))
  if (noun === 'scale' && verb === 'vm') return GUEST_SIZES.map((word) => ({ word, about: '' }))
  if (noun === 'completion') return ['bash', 'zsh', 'fish'].map((word) => ({ word, about: '' }))
  return []
}

function contexts(asking: Asking): Suggestion[] {
  return readContexts(asking.terminal.env).all.map(({ name, url }) => ({ word: name, about: url }))
}

/** A server that is not there is not told of: whoever calls the command will hear it. */
function client(asking: Asking) {
  return connect({ ...asking.terminal, stderr: { write: () => {} } })
}
function soon({ serverMs }: Asking) {
  return { timeoutMs: serverMs, signal: AbortSignal.timeout(serverMs) }
}

async function apps(asking: Asking): Promise<Suggestion[]> {
  const list = await client(asking).listApps({}, soon(asking))
  return list.apps.map(({ name, status }) => ({ word: name, about: status }))
}

async function regions(asking: Asking): Promise<Suggestion[]> {
  const list = await client(asking).listRegions({}, soon(asking))
  return list.map(({ code, name }) => ({ word: code, about: name }))
}

async function machines(given: readonly string[], asking: Asking): Promise<Suggestion[]> {
  const app = appOf(given, asking)
  if (app === null) return []
  const { machines: list } = await client(asking).appStatus({ params: { app } }, soon(asking))
  return list
    .filter(({ id }) => !given.slice(0, -1).includes(id))
    .map(({ id, state, region }) => ({ word: id, about: `${state} in ${region}` }))
}

async function groups(given: readonly string[], asking: Asking): Promise<Suggestion[]> {
  const app = appOf(given, asking)
  if (app === null) return []
  const { release } = await client(asking).appStatus({ params: { app } }, soon(asking))
  return (release?.groups ?? []).map((word) => ({ word, about: '' }))
}

function appOf(given: readonly string[], asking: Asking): string | null {
  const at = given.findIndex((word) => word === '-a' || word === '--app')
  const said = at < 0 ? undefined : given[at + 1]
  return appNameFor(asking.terminal, said === undefined ? {} : { app: said })
}
