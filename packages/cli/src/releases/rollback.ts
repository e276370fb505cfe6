import type { RollbackReply } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type RolloutOptions, rolloutBody, rolloutOptions } from '../deploy/flags.ts'
import { carryOut, planText } from '../deploy/release-progress.ts'
import { Failure, usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { canAsk, confirm } from '../terminal/ask.ts'
import { progressOn } from '../terminal/progress.ts'
import { versionOf } from './releases.ts'

interface Options extends AppOptions, RolloutOptions {
  readonly yes?: boolean
  readonly plan?: boolean
  readonly json?: boolean
}

const WAIT_TIMEOUT_MS = 300_000

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('rollback')
      .description(
        'Go back to an earlier release: its image, configuration and secrets, as a new release. One that is being rolled out is given up.',
      )
      .argument('[version]', 'where to; default: what served before'),
  )
    .option('-y, --yes', 'do not ask')
    .option('--plan', 'only show what would be done')
  rolloutOptions(command)
  explained(command, {
    examples: ['roost rollback', 'roost rollback 7 -a shop', 'roost rollback 7 --yes --detach'],
    json: `{release: as roost releases --json, changes: {image: {from, to} | null, config: [key],
 secrets: [{name, change}]}}`,
  })
  command.action((said: string | undefined, options: Options) =>
    withApp(context, options, async ({ client, params, app }) => {
      const signal = context.interrupted()
      const progress = progressOn(context, options.json ? context.stderr : context.stdout)
      const waitTimeoutMs = options.waitTimeout ?? WAIT_TIMEOUT_MS
      const body = {
        ...(said === undefined ? {} : { version: versionOf(said) }),
        ...rolloutBody(options),
        wait_timeout: waitTimeoutMs / 1000,
      }
      const planned = await client.createRollback(
        { params, body: { ...body, plan_only: true } },
        { signal },
      )
      const to = planned.release.rollback_of ?? planned.release.version
      progress.line(changesText(planned, to))
      progress.line(planText(planned.release, `Plan of release v${planned.release.version}`))
      if (options.plan) {
        if (options.json) printJson(context, planned)
        return
      }
      if (!options.yes) {
        if (!canAsk(context))
          throw usage(
            'a rollback needs a confirmation, and there is no terminal to ask on',
            `roost rollback ${to} -a ${app} --yes`,
          )
        if (!(await confirm(context, `Go back to release v${to}?`)))
          throw new Failure('nothing was done')
      }
      // Exactly what was shown, though something may have been released meanwhile.
      const { release, changes } = await client.createRollback(
        { params, body: { ...body, version: to } },
        { signal },
      )
      const ended = await carryOut(client, release, progress, {
        signal,
        waitTimeoutMs,
        detach: options.detach,
      })
      if (!options.detach)
        progress.line(
          `Release v${ended.version} of ${app} is complete: it is release v${to} again.`,
        )
      if (options.json) printJson(context, { release: ended, changes })
    }),
  )
}

function changesText({ release, changes }: RollbackReply, to: number): string {
  const { image, config, secrets } = changes
  const lines = [
    ...(image === null ? [] : [`  image    ${image.from}`, `           → ${image.to}`]),
    ...(config.length === 0 ? [] : [`  config   ${config.join(', ')}`]),
    ...(secrets.length === 0
      ? []
      : [`  secrets  ${secrets.map(({ name, change }) => `${name} (${change})`).join(', ')}`]),
  ]
  const what = `Back to release v${to} of ${release.app}`
  return lines.length === 0
    ? `${what}: nothing of what serves changes`
    : `${what}:\n${lines.join('\n')}`
}
