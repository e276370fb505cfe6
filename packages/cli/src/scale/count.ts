import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type FollowOptions, followOptions } from '../deploy/flags.ts'
import { carryOut, planText } from '../deploy/release-progress.ts'
import { Failure } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { confirmByName } from '../terminal/ask.ts'
import { progressOn } from '../terminal/progress.ts'
import { countsOf, wantedCounts } from './counts.ts'

interface Options extends AppOptions, FollowOptions {
  readonly region?: string
  readonly yes?: boolean
  readonly json?: boolean
}

const WAIT_TIMEOUT_MS = 300_000

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('count')
      .description('Set how many machines run; regions that are not named stay as they are')
      .argument('<count...>', 'a number, or REGION=NUMBER for each region'),
  )
    .option('--region <code>', 'the region that a bare number is for; else it is the sum of all')
    .option('-y, --yes', 'do not ask, also when no machine is left')
  followOptions(command)
  explained(command, {
    examples: [
      'roost scale count ams=2 iad=1',
      'roost scale count 3 --region syd',
      'roost scale count 6',
    ],
    json: '{scale: {region: number}, release: as roost releases --json}',
  })
  command.action((said: string[], options: Options) =>
    withApp(context, options, async ({ client, params, app }) => {
      const status = await client.appStatus({ params })
      if (status.release === null)
        throw new Failure(`${app} has no release that machines could run`, { fix: 'roost deploy' })
      const scale = wantedCounts(said, options.region, countsOf(status))
      if (Object.values(scale).every((count) => count === 0))
        await confirmByName(context, app, `Leave ${app} without machines`, options.yes ?? false)
      const progress = progressOn(context, options.json ? context.stderr : context.stdout)
      const planned = await client.setScale({ params, body: { scale, plan_only: true } })
      progress.line(
        planText(
          planned,
          `Scale ${app} to ${Object.entries(scale)
            .map(([region, count]) => `${region}=${count}`)
            .join(' ')}`,
        ),
      )
      if (planned.plan.length === 0) {
        if (options.json) printJson(context, { scale, release: status.release })
        return
      }
      const release = await client.setScale({ params, body: { scale } })
      const ended = await carryOut(client, release, progress, {
        signal: context.interrupted(),
        waitTimeoutMs: WAIT_TIMEOUT_MS,
        detach: options.detach,
      })
      if (!options.detach) progress.line(`Release v${ended.version} of ${app} is complete.`)
      if (options.json) printJson(context, { scale, release: ended })
    }),
  )
}
