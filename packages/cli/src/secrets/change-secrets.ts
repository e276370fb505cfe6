import type { CliContext } from '../cli-context.ts'
import { printJson } from '../command-options.ts'
import type { FollowOptions } from '../deploy/flags.ts'
import { carryOut, RELEASE_FAILED } from '../deploy/release-progress.ts'
import { Failure } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'

export interface SecretOptions extends AppOptions, FollowOptions {
  readonly json?: boolean
  readonly stage?: boolean
}

const WAIT_TIMEOUT_MS = 300_000

/** Stores the change and follows the release that brings it to the machines. null removes. */
export async function changeSecrets(
  context: CliContext,
  options: SecretOptions,
  values: Readonly<Record<string, string | null>>,
): Promise<void> {
  await withApp(context, options, async ({ client, params, app }) => {
    const progress = progressOn(context, options.json ? context.stderr : context.stdout)
    const { release } = await client.setSecrets({
      params,
      body: { values: { ...values }, stage: options.stage ?? false },
    })
    const names = Object.keys(values).sort()
    if (release === null) {
      const done = Object.values(values).includes(null) ? 'Removed' : 'Stored'
      const when = options.stage
        ? 'The next release brings it to the machines.'
        : 'There is no release yet that machines would have to hear it from.'
      progress.line(`${done}: ${names.join(', ')}. ${when}`)
      if (options.json) printJson(context, { names, release: null })
      return
    }
    progress.line(`Release v${release.version} of ${app} brings ${names.join(', ')}`)
    const ended = await carryOut(client, release, progress, {
      signal: context.interrupted(),
      waitTimeoutMs: WAIT_TIMEOUT_MS,
      detach: options.detach,
    }).catch((error: unknown) => {
      // What was set is set: it would come again with the next release.
      if (error instanceof Failure && error.code === RELEASE_FAILED)
        throw new Failure(error.message, {
          why: `${error.why}\nWhat was ${Object.values(values).includes(null) ? 'removed' : 'set'} stays so, and comes with the next release.`,
          fix: [`roost secrets list -a ${app}`, ...error.fixes],
          code: RELEASE_FAILED,
        })
      throw error
    })
    if (!options.detach) progress.line(`Release v${ended.version} of ${app} is complete.`)
    if (options.json) printJson(context, { names, release: ended })
  })
}
