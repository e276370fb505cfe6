import { obtainImages } from '../packages/cli/src/mirror/seed.ts'

/** Makes the base images that tests bring into their registries, where the cache has none yet. */
const onProgress = (text: string) => process.stdout.write(`${text}\n`)
for await (const _ of obtainImages({ upstream: null, onProgress }));
