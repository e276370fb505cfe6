import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import type { CommandModule } from '../command-table.ts'
import { GUEST_SIZES, type Guest, guestPreset } from '../config/guest.ts'
import { megabytes, nearest } from '../config/reader.ts'
import { type FollowOptions, followOptions } from '../deploy/flags.ts'
import { carryOut, planText } from '../deploy/release-progress.ts'
import { Failure, usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'
import { checkedGroup } from './counts.ts'

interface Options extends AppOptions, FollowOptions {
  readonly processGroup?: string
  readonly vmMemory?: string
  readonly json?: boolean
}

const WAIT_TIMEOUT_MS = 300_000
const JSON_TEXT = '{group, guest: {cpu_kind, cpus, memory_mb}, release: as roost releases --json}'

export const vmCommand: CommandModule = {
  register(parent: Command, context: CliContext): void {
    const command = common(
      parent
        .command('vm')
        .description('Set the size of machines: each is replaced by one of the new size')
        .argument('<size>', GUEST_SIZES.join(', ')),
    ).option('--vm-memory <size>', 'with this memory instead of that of the size: 512mb, 1gb')
    explained(command, {
      examples: [
        'roost scale vm shared-cpu-2x -a shop',
        'roost scale vm performance-1x --vm-memory 4gb --process-group worker',
      ],
      json: JSON_TEXT,
    })
    command.action((size: string, options: Options) =>
      resize(context, options, { ...preset(size), ...memoryOf(options.vmMemory) }),
    )
  },
}

export const memoryCommand: CommandModule = {
  register(parent: Command, context: CliContext): void {
    const command = common(
      parent
        .command('memory')
        .description('Set the memory of machines: each is replaced by one that has it')
        .argument('<size>', '512, 512mb, 1gb'),
    )
    explained(command, { examples: ['roost scale memory 512mb -a shop'], json: JSON_TEXT })
    command.action((size: string, options: Options) => resize(context, options, memoryOf(size)))
  },
}

function common(command: Command): Command {
  return followOptions(
    appOption(command).option(
      '--process-group <name>',
      'whose machines; needed where there are several groups',
    ),
  )
}

async function resize(context: CliContext, options: Options, guest: Partial<Guest>): Promise<void> {
  await withApp(context, options, async ({ client, params, app }) => {
    const { release: serving } = await client.appStatus({ params })
    if (serving === null)
      throw new Failure(`${app} has no release whose machines could be of another size`, {
        fix: 'roost deploy',
      })
    const group = groupFor(options.processGroup, serving.groups)
    const progress = progressOn(context, options.json ? context.stderr : context.stdout)
    const body = { guests: { [group]: guest } }
    const planned = await client.setScale({ params, body: { ...body, plan_only: true } })
    progress.line(planText(planned, `Size of ${group} of ${app}`))
    const release = await client.setScale({ params, body })
    const ended = await carryOut(client, release, progress, {
      signal: context.interrupted(),
      waitTimeoutMs: WAIT_TIMEOUT_MS,
      detach: options.detach,
    })
    if (!options.detach)
      progress.line(
        `Release v${ended.version} of ${app} is complete. A [[vm]] in fly.toml goes before it at the next deploy.`,
      )
    if (options.json) printJson(context, { group, guest, release: ended })
  })
}

function groupFor(said: string | undefined, groups: readonly string[]): string {
  if (said !== undefined) return checkedGroup(said, groups)
  const [only, ...more] = groups
  if (only !== undefined && more.length === 0) return only
  throw usage(
    `there are several process groups: ${groups.join(', ')}`,
    groups.map((name) => `--process-group ${name}`),
  )
}

function preset(size: string): Guest {
  const found = guestPreset(size)
  if (found !== null) return found
  const near = nearest(size, GUEST_SIZES, (name) => name)
  throw usage(
    `"${size}" is no size: ${GUEST_SIZES.join(', ')}`,
    near === null ? undefined : `roost scale vm ${near}`,
  )
}

function memoryOf(text: string | undefined): Partial<Guest> {
  if (text === undefined) return {}
  const memory = megabytes(/^\d+$/.test(text) ? `${text}mb` : text)
  if (memory === undefined || memory < 64 || memory > 1_000_000)
    throw usage(`"${text}" is no memory: it looks like 512mb or 1gb, from 64mb on`)
  return { memory_mb: memory }
}
