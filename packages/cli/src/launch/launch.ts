import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type ApiClient, ApiError } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { withFilesBeside } from '../config/beside-fly-toml.ts'
import { findConfig } from '../config/config-file.ts'
import { readFlyToml } from '../config/fly-toml.ts'
import { GUEST_SIZE_DEFAULT, GUEST_SIZES, guestPreset } from '../config/guest.ts'
import { nearest } from '../config/reader.ts'
import { deployApp } from '../deploy/deployment.ts'
import {
  type BuildOptions,
  buildFlags,
  buildOptions,
  memoryOption,
  regionList,
  withMemory,
  yesOrNo,
} from '../deploy/flags.ts'
import { dockerfileOf } from '../deploy/image.ts'
import { checkRegions, checkRoom } from '../deploy/preflight.ts'
import { GOES_ON, RELEASE_FAILED } from '../deploy/release-progress.ts'
import { explain } from '../failure/explain.ts'
import { Failure, usage } from '../failure/failure.ts'
import { checkedAppName } from '../session/app-session.ts'
import { connect } from '../session/connect.ts'
import { askOne, askSome, askText, canAsk, confirm } from '../terminal/ask.ts'
import { untilInterrupted } from '../terminal/interrupt.ts'
import { progressOn } from '../terminal/progress.ts'
import { defaultRegions } from './default-regions.ts'
import { exposedPort } from './exposed-port.ts'
import { isLaunchable, withNames } from './kept-config.ts'
import { newFlyToml } from './new-fly-toml.ts'
import { nameFromFolder, withSuffix } from './suggested-name.ts'
import { createMade, FAILED_MS_MAX, INTERRUPTED_MS_MAX, type Made } from './undo.ts'

interface Options extends BuildOptions {
  readonly name?: string
  readonly regions?: readonly string[]
  readonly vmSize?: string
  readonly vmMemory?: number
  readonly internalPort?: string
  readonly ha?: boolean
  readonly yes?: boolean
  readonly force?: boolean
  readonly copyConfig?: boolean
  readonly deploy?: boolean
  readonly json?: boolean
}

type Region = Awaited<ReturnType<ApiClient['listRegions']>>[number]

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('launch')
    .description(
      'Make an app of a folder with a Dockerfile: asks for name, regions and size, writes fly.toml, builds and releases. One that fails leaves nothing behind.',
    )
    .argument('[folder]', 'default: this one')
    .option('--name <name>', 'name of the app, and of its host; default: that of the folder')
    .option(
      '--regions <codes>',
      'regions to run in, separated by commas; the first is the primary one',
      regionList,
    )
    .option('--vm-size <size>', `size of each machine; default: ${GUEST_SIZE_DEFAULT}`)
    .option(
      '--internal-port <port>',
      'where the program listens; default: what the Dockerfile exposes, else 8080',
    )
    .option('--ha <yes>', 'false: one machine instead of two', yesOrNo, true)
    .option('-y, --yes', 'ask nothing: flags, else defaults')
    .option('--force', 'replace a fly.toml that is there')
    .option(
      '--copy-config',
      'go by the fly.toml that is there, under another name; one that names no app is taken without asking',
    )
    .option('--no-deploy', 'write fly.toml and create the app, and leave the rest to roost deploy')
  memoryOption(command)
  buildOptions(command)
  explained(command, {
    examples: [
      'roost launch',
      'roost launch --yes --name shop --regions ams,iad,syd',
      'roost launch --yes --vm-size shared-cpu-2x --ha=false',
    ],
    json: 'as roost deploy --json; with --no-deploy: {app, config}',
  })
  command.action((said: string | undefined, options: Options) => run(context, said, options))
}

async function run(context: CliContext, said: string | undefined, options: Options): Promise<void> {
  const folder = resolve(context.cwd, said ?? '.')
  if (!existsSync(folder)) throw usage(`there is no folder ${said}`)
  const build = buildFlags(options)
  const path = join(folder, 'fly.toml')
  const kept = keptConfig(folder, options)
  const dockerfile = kept === null ? dockerfileOf(folder, {}, build, context.cwd) : ''
  const port =
    kept === null
      ? (portOf(options) ??
        exposedPort(readFileSync(join(folder, dockerfile), 'utf8'), options.buildTarget))
      : null
  const size = options.vmSize === undefined ? undefined : checkedSize(options.vmSize)
  const name = options.name === undefined ? undefined : checkedAppName(options.name)
  const asks =
    options.yes !== true &&
    (name === undefined || options.regions === undefined || (size === undefined && kept === null))
  if (asks && !canAsk(context))
    throw usage('there is no terminal to ask for name, regions and size on', [
      'roost launch --yes   # takes the defaults',
      'roost launch --name NAME --regions ams,iad --vm-size shared-cpu-1x',
    ])
  if (kept === null) await mayWrite(context, path, options)

  const client = connect(context)
  const signal = context.interrupted()
  const progress = progressOn(context, options.json ? context.stderr : context.stdout)
  const all = await untilInterrupted(signal, regionsOf(client))
  const proposed = defaultRegions(all, options.ha ?? true)
  const regions = options.regions ?? (asks ? null : proposed)
  if (regions !== null) checkRegions(regions, all)
  const answers: Answers = {
    name: name ?? (asks ? await askedName(context, folder) : undefined),
    regions: regions ?? (await askedRegions(context, all, proposed)),
    size: kept === null ? (size ?? (asks ? await askedSize(context) : GUEST_SIZE_DEFAULT)) : null,
  }
  const content = (app: string) =>
    kept !== null
      ? withNames(kept, { app, primaryRegion: answers.regions[0] ?? '' })
      : newFlyToml({
          name: app,
          primaryRegion: answers.regions[0] ?? '',
          internalPort: port ?? 8080,
          size: answers.size ?? GUEST_SIZE_DEFAULT,
          memoryMb: options.vmMemory,
          dockerfile: dockerfile === 'Dockerfile' ? undefined : dockerfile,
        })
  const whole = withFilesBeside(readFlyToml(content('app')).config, folder)
  const config = withMemory(whole.config, options.vmMemory)
  checkRegions(answers.regions, all)
  checkRoom(answers.regions, all, config)

  const made = createMade(client)
  let app = answers.name ?? nameFromFolder(folder)
  try {
    const reserved = made.app(createApp(client, answers.name, nameFromFolder(folder)))
    app = await untilInterrupted(signal, reserved)
    made.write(path, content(app))
    const settings =
      kept === null
        ? `${answers.size}, port ${port ?? 8080}${port === null ? ' (the Dockerfile exposes none)' : ''}. Wrote fly.toml.`
        : 'by the fly.toml that is there.'
    progress.line(`App ${app} in ${answers.regions.join(', ')}, ${settings}`)
    if (options.deploy === false) {
      if (options.json) printJson(context, { app, config: path })
      else progress.line('Deploy it: roost deploy')
      return
    }
    const result = await deployApp(
      context,
      client,
      {
        app,
        folder,
        config,
        base: whole.base,
        source: content(app),
        build: buildFlags(options),
        regions: answers.regions,
        ha: options.ha ?? true,
      },
      progress,
    )
    if (options.json) printJson(context, result)
  } catch (error) {
    throw await undone(error, made, { app, said, answers, options })
  }
}

/** The fly.toml that is there, when launch goes by it; null when launch writes one. */
function keptConfig(folder: string, options: Options): string | null {
  if (options.force) return null
  const file = findConfig(folder)
  if (file === null || !isLaunchable(file, options.copyConfig === true)) return null
  const said = options.vmSize !== undefined ? '--vm-size' : '--internal-port'
  if (options.vmSize !== undefined || options.internalPort !== undefined)
    throw usage(`${said} is for a fly.toml that launch writes, and there is one`, [
      'change it in fly.toml',
      'roost launch --force   # replaces fly.toml',
    ])
  return file.content
}

interface Answers {
  readonly name: string | undefined
  readonly regions: readonly string[]
  /** null: as the fly.toml that is there says. */
  readonly size: string | null
}

/**
 * A launch that fails leaves nothing, and says how it is done again. What the server still carries on stays, and so does
 * everything when the server can't be asked.
 */
async function undone(
  error: unknown,
  made: Made,
  launch: {
    readonly app: string
    readonly said: string | undefined
    readonly answers: Answers
    readonly options: Options
  },
): Promise<unknown> {
  const { app } = launch
  const { what, why, fixes, exitCode, code } = explain(error)
  if (code === GOES_ON)
    return new Failure(what, {
      why: [why, `The app ${app} and fly.toml stay.`].filter((text) => text !== null).join('\n'),
      fix: [...fixes, `roost apps destroy ${app}   # takes all of it back`],
      exitCode,
      code,
      cause: error,
    })
  const left = await made.undo(exitCode === 130 ? INTERRUPTED_MS_MAX : FAILED_MS_MAX)
  const file = launch.answers.size === null ? 'and fly.toml is as it was' : 'no fly.toml'
  const nothing = left.length === 0 ? `Nothing is left of it: no app, no machine, ${file}.` : null
  const again = exitCode === 130 || code === 'name_taken' ? [] : [commandOf(launch, why ?? '')]
  // The logs went with the app; the last lines were shown.
  const kept = code === RELEASE_FAILED ? [] : fixes.filter((fix) => !fix.startsWith('roost deploy'))
  return new Failure(what, {
    why: [why, nothing].filter((text) => text !== null).join('\n') || null,
    fix: [
      ...(code === RELEASE_FAILED ? again : []),
      ...kept,
      ...left,
      ...(code === RELEASE_FAILED ? [] : again),
    ],
    exitCode,
    code,
    cause: error,
  })
}

/** The launch as one line with all its answers; with the port that the program was found to listen on. */
function commandOf(
  { said, answers, options, app }: Parameters<typeof undone>[2],
  why: string,
): string {
  const otherPort = /set internal_port = (\d+)/.exec(why)?.[1]
  const moreMemory = /--vm-memory (\d+)/.exec(why)?.[1]
  const port = otherPort ?? options.internalPort
  const memory = moreMemory ?? options.vmMemory
  const flags = [
    ['--dockerfile', options.dockerfile],
    ['--ignorefile', options.ignorefile],
    ['--build-target', options.buildTarget],
    ...Object.entries(options.buildArg ?? {}).map(([name, value]) => [
      '--build-arg',
      `${name}=${value}`,
    ]),
  ].flatMap(([flag, value]) => (value === undefined ? [] : [`${flag} ${shellQuoted(value)}`]))
  const line = [
    'roost launch',
    ...(said === undefined ? [] : [shellQuoted(said)]),
    `--yes --name ${app} --regions ${answers.regions.join(',')}`,
    ...(answers.size === null ? [] : [`--vm-size ${answers.size}`]),
    ...(options.copyConfig ? ['--copy-config'] : []),
    ...(memory === undefined ? [] : [`--vm-memory ${memory}`]),
    ...(port === undefined ? [] : [`--internal-port ${port}`]),
    ...(options.ha === false ? ['--ha=false'] : []),
    ...flags,
  ].join(' ')
  return otherPort === undefined && moreMemory === undefined
    ? `${line}   # once it is mended`
    : line
}

function shellQuoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

async function mayWrite(context: CliContext, path: string, options: Options): Promise<void> {
  if (!existsSync(path) || options.force) return
  const advice = [
    'roost deploy   # deploys the app that it describes',
    'roost launch --copy-config   # launches another app by it',
    'roost launch --force   # replaces it',
  ]
  if (options.yes || !canAsk(context))
    throw usage(`${path} is there already, and launch would replace it`, advice)
  if (!(await confirm(context, `${path} is there already. Replace it?`)))
    throw new Failure('nothing was done', { fix: advice[0] })
}

async function regionsOf(client: ApiClient): Promise<readonly Region[]> {
  const regions = await client.listRegions()
  if (regions.length === 0)
    throw new Failure('there is no host that could run it', {
      fix: ['roost hosts', 'roost playground up --regions ams,iad,syd'],
    })
  return regions
}

const NAMES_TRIED_MAX = 5

/** A name that was asked for is taken as it is; one from the folder gets a suffix when somebody has it. */
async function createApp(
  client: ApiClient,
  said: string | undefined,
  fromFolder: string,
): Promise<string> {
  let name = said ?? fromFolder
  for (let n = 1; ; n++) {
    try {
      return (await client.createApp({ body: { app_name: name, org_slug: 'personal' } })).name
    } catch (error) {
      const taken = error instanceof ApiError && error.code === 'name_taken'
      if (taken && said !== undefined)
        throw new Failure(`the name "${said}" is taken`, {
          why: 'another app has it, perhaps an earlier launch of yours',
          fix: [
            `roost launch --name ${withSuffix(said)}`,
            `roost deploy -a ${said}   # if it is yours`,
          ],
          code: 'name_taken',
          cause: error,
        })
      if (!taken || n >= NAMES_TRIED_MAX) throw error
      name = withSuffix(fromFolder)
    }
  }
}

function askedName(context: CliContext, folder: string): Promise<string> {
  return askText(context, {
    message: 'Name of the app? It is also its host name',
    initial: nameFromFolder(folder),
    check: (value) => {
      try {
        checkedAppName(value)
        return undefined
      } catch {
        return 'lower-case letters, digits and dashes, at most 63'
      }
    },
  })
}

function askedRegions(
  context: CliContext,
  all: readonly Region[],
  proposed: readonly string[],
): Promise<string[]> {
  const choices = all.map(({ code, name, free_memory_mb }) => ({
    value: code,
    label: `${code}  ${name}`,
    hint: `${free_memory_mb} MB free`,
  }))
  return askSome(context, 'Regions? Space chooses, Enter goes on', choices, proposed)
}

const SIZES_ASKED = 6

function askedSize(context: CliContext): Promise<string> {
  const choices = GUEST_SIZES.slice(0, SIZES_ASKED).map((size) => {
    const preset = guestPreset(size)
    return { value: size, label: size, hint: `${preset?.memory_mb} MB` }
  })
  return askOne(context, 'Size of each machine?', choices, GUEST_SIZE_DEFAULT)
}

function checkedSize(size: string): string {
  if (guestPreset(size) !== null) return size
  const near = nearest(size, GUEST_SIZES, (one) => one)
  throw usage(
    `there is no size "${size}": there are ${GUEST_SIZES.join(', ')}`,
    near === null ? [] : `--vm-size ${near}`,
  )
}

function portOf(options: Options): number | null {
  if (options.internalPort === undefined) return null
  const port = Number(options.internalPort)
  if (!Number.isInteger(port) || port < 1 || port > 65535)
    throw usage(`--internal-port is a number from 1 to 65535, not "${options.internalPort}"`)
  return port
}
