import { PlatformError } from '@roost/base'
import type { MachineFile } from '@roost/core'
import type { Environment, FileContent } from '../runtime.ts'

/**
 * What is in the files of a machine or a container: given with the configuration, or a secret of
 * the app's, in base64 both; or what an image says of itself, which its
 * host knows. */
export function fileContents(
  files: readonly MachineFile[],
  secrets: Environment,
): readonly FileContent[] {
  return files.map(({ guest_path: path, raw_value, secret_name, image_config }) => {
    if (raw_value !== undefined) return { path, content: Buffer.from(raw_value, 'base64') }
    if (image_config !== undefined) return { path, content: { imageConfigOf: image_config } }
    const name = secret_name ?? ''
    const value = secrets[name]
    if (value === undefined)
      throw new PlatformError('precondition_failed', `write ${path}`, {
        cause: new Error(
          `the app has no secret ${name}; set it to the content in base64: roost secrets set ${name}=…`,
        ),
        retry: 'later',
      })
    return { path, content: Buffer.from(value, 'base64') }
  })
}
