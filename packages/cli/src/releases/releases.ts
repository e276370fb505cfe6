import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { releaseFailure } from '../deploy/deployment.ts'
import { watchRelease } from '../deploy/release-progress.ts'
import { Failure } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'

/** A release's own wait is not known here; the longest that there is. */
const WAIT_TIMEOUT_MS_MAX = 3_600_000

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent.command('releases').description('Releases of an app, the newest first'),
  ).option('-f, --follow', 'watch the newest one until it ends')
  explained(command, {
    examples: ['roost releases', 'roost releases -a shop --follow', 'roost releases --json'],
    json: '[{app, version, status, image, reason, created_at, updated_at, created_by, plan}]; with --follow: one of these',
  })
  command.action((options: AppOptions & { json?: boolean; follow?: boolean }) =>
    withApp(context, options, async ({ client, params, app }) => {
      const releases = await client.listReleases({ params })
      if (options.follow) {
        const [newest] = releases
        if (newest === undefined)
          throw new Failure(`${app} has no release`, { fix: 'roost deploy' })
        const progress = progressOn(context, options.json ? context.stderr : context.stdout)
        const ended = await watchRelease(client, { app, version: newest.version }, progress, {
          signal: context.interrupted(),
          waitTimeoutMs: WAIT_TIMEOUT_MS_MAX,
        })
        if (ended.status === 'failed') throw releaseFailure(ended, newest.version > 1)
        if (options.json) printJson(context, ended)
        else progress.line(`Release v${ended.version} of ${app} is complete.`)
        return
      }
      if (options.json) return printJson(context, releases)
      if (releases.length === 0) {
        context.stdout.write('No releases yet: roost deploy\n')
        return
      }
      const style = styleOf(context, context.stdout)
      const rows = releases.map((release) => [
        `v${release.version}`,
        release.status === 'complete'
          ? style.green('complete')
          : release.status === 'failed'
            ? style.red('failed')
            : release.status,
        ago(release.created_at),
        release.created_by,
        release.reason ?? '',
        release.image,
      ])
      const headings = ['VERSION', 'STATUS', 'CREATED', 'BY', 'REASON', 'IMAGE']
      context.stdout.write(`${tableText(headings, rows, context.stdout)}\n`)
    }),
  )
}
