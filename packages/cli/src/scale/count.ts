import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type FollowOptions, followOptions } from '../deploy/flags.ts'
import { carryOut, planText } from '../deploy/release-progress.ts'
import { Failure } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { confirmByName } from '../terminal/ask.ts'
import { progressOn } from '../terminal/progress.ts'
import { type Counts, countsOf, wantedByGroup } from './counts.ts'

interface Options extends AppOptions, FollowOptions {
  readonly region?: string
  readonly processGroup?: string
  readonly yes?: boolean
  readonly json?: boolean
}

const WAIT_TIMEOUT_MS = 300_000

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('count')
      .description('Set how many machines run; regions that are not named stay as they are')
      .argument(
        '<count...>',
        'a number, REGION=NUMBER for each region, or GROUP=NUMBER for each process group',
      ),
  )
    .option('--region <code>', 'the region that a bare number is for; else it is the sum of all')
    .option('--process-group <name>', 'whose machines; default: those of the default group')
    .option('-y, --yes', 'do not ask, also when no machine is left')
  followOptions(command)
  explained(command, {
    examples: [
      'roost scale count ams=2 iad=1',
      'roost scale count 3 --region syd',
      'roost scale count 6',
      'roost scale count web=4 worker=1',
      'roost scale count 2 --process-group worker --region ams',
    ],
    json: '{scale: {region: number} of the default group, groups: {group: {region: number}}, release: as roost releases --json}',
  })
  command.action((said: string[], options: Options) =>
    withApp(context, options, async ({ client, params, app }) => {
      const status = await client.appStatus({ params })
      if (status.release === null)
        throw new Failure(`${app} has no release that machines could run`, { fix: 'roost deploy' })
      const names = status.release.groups
      const group = options.processGroup
      const groups = wantedByGroup(said, { region: options.region, group }, status, names)
      const [first = ''] = names
      const after = names.map((name) => groups[name] ?? countsOf(status, name))
      if (after.every((counts) => Object.values(counts).every((count) => count === 0)))
        await confirmByName(context, app, `Leave ${app} without machines`, options.yes ?? false)
      const { [first]: scale, ...others } = groups
      const body = {
        ...(scale === undefined ? {} : { scale }),
        ...(Object.keys(others).length === 0 ? {} : { group_scale: others }),
      }
      const progress = progressOn(context, options.json ? context.stderr : context.stdout)
      const planned = await client.setScale({ params, body: { ...body, plan_only: true } })
      progress.line(planText(planned, `Scale ${app} to ${countsText(groups, names.length > 1)}`))
      if (planned.plan.length === 0) {
        if (options.json)
          printJson(context, { scale: scale ?? {}, groups, release: status.release })
        return
      }
      const release = await client.setScale({ params, body })
      const ended = await carryOut(client, release, progress, {
        signal: context.interrupted(),
        waitTimeoutMs: WAIT_TIMEOUT_MS,
        detach: options.detach,
      })
      if (!options.detach) progress.line(`Release v${ended.version} of ${app} is complete.`)
      if (options.json) printJson(context, { scale: scale ?? {}, groups, release: ended })
    }),
  )
}

function countsText(groups: Readonly<Record<string, Counts>>, named: boolean): string {
  return Object.entries(groups)
    .map(([group, counts]) => {
      const regions = Object.entries(counts).map(([region, count]) => `${region}=${count}`)
      return `${named ? `${group} ` : ''}${regions.join(' ')}`
    })
    .join(', ')
}
